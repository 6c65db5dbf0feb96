// What the reader has chosen: the view, its zoom, and how they are shown. The address always says it.
import { askedAddress, isBareAddress, isWrittenAs, readAddress, writeAddress } from "./address.js";

/** @import { AskedAddress, Defaults } from "../answers.d.ts" */
/** @import { Choices } from "./address.js" */

export class Selection {
  /** @type {Choices} */
  choices;
  /** @type {number[] | null} the part of the view that is shown, in epoch seconds */
  zoom = null;
  /** @type {string[]} on what in the address was not accepted */
  remarks = [];
  /** Goes up whenever the reader's zooms no longer apply. */
  axes = 0;
  #defaults;
  #search = "";
  #home = "";

  /** @param {Defaults} defaults */
  constructor(defaults) {
    this.#defaults = defaults;
    this.choices = this.take(askedAddress());
  }

  /** The page was opened, or returned to from another page, at the present address. */
  enter() {
    this.#home = location.pathname;
  }

  /** Whether the address is that of the page, and not of another page of the application. */
  get isHome() {
    return location.pathname === this.#home;
  }

  /** Whether the address names another selection than it did, such as after a link. */
  get isOutdated() {
    return location.search !== this.#search && !isBareAddress();
  }

  /** Takes the choices from the address. @param {AskedAddress | null} [asked] */
  take(asked = null) {
    const { choices, zoom, remarks } = readAddress(this.#defaults, asked);
    this.choices = choices;
    this.zoom = zoom;
    this.remarks = remarks;
    this.#search = location.search;
    return choices;
  }

  /** Puts the address into the form that the page itself writes. */
  tidyAddress() {
    if (!isWrittenAs(this.choices, this.zoom)) this.#write(false);
  }

  /** Changes how the view is shown. @param {Partial<Choices>} part */
  change(part) {
    Object.assign(this.choices, part);
    this.#write(false);
  }

  /** Chooses another view; the Back button leads to the present one. @param {Partial<Choices>} part */
  chooseView(part) {
    Object.assign(this.choices, part);
    this.zoom = null;
    this.remarks = [];
    this.#write(true);
  }

  /** Keeps the zoom in the address; the Back button leads to what was shown before. */
  keepZoom() {
    this.#write(true);
  }

  /** @param {boolean} isStep */
  #write(isStep) {
    writeAddress(this.choices, this.zoom, isStep);
    this.#search = location.search;
  }
}
