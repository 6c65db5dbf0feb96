// What the server sends to the page, as far as its script reads it. Instants are epoch seconds by
// Prometheus's clock unless something else is said.

export type State = "fresh" | "partial" | "stale" | "empty" | "idle" | "unavailable";
export type Kind = "count" | "percent" | "latency";

/** Base64 of little-endian numbers. */
export interface Packed {
  dtype: "f4" | "f8" | "u2" | "u4";
  bdata: string;
}

/** A value between two bounds; high null: no end. */
export type Bounds = [low: number, high: number | null];

/** Text with instants, which are written in the reader's zone. */
export type Sentence = (string | { at: number })[];

/** One curve: Plotly's trace, and what the page makes its points of. `x0` and `dx` in milliseconds. */
export interface Trace {
  name: string;
  uid: string;
  /** The name for a spreadsheet, where that could take it for a formula. */
  cell?: string;
  x0: number;
  dx: number;
  /** The steps of the points that are left, where some were left out. */
  at?: Packed;
  y: Packed;
  words: { of: string[]; at: Packed };
  line: { color: string; width?: number; dash?: string };
  hovertemplate: string;
  live?: number;
  liveWords?: string;
  liveOver?: string;
  liveBetween?: Bounds;
  soFar?: number;
  soFarWords?: string;
}

export interface Figure {
  data: Trace[];
  layout: Record<string, any>;
  /** What one point is. */
  point: string;
  /** The step that is still open. */
  live?: { at: number; from: number };
}

/** The end of a curve in the step that is still open. */
export interface LiveEnd {
  at: number;
  from: number;
  value: number;
  words: string;
  /** Over how long it was measured; empty: it is of one moment. */
  over: string;
  between: Bounds | null;
  /** The value over the open step, where it is worse. */
  soFar: number | null;
  soFarWords: string;
}

/** A curve with its points unpacked. */
export interface Curve {
  trace: Trace;
  times: number[];
  values: (number | null)[];
  /** The words of each value, which the server made of the full number. */
  texts: string[];
  live: LiveEnd | null;
}

/** The present value of a panel. */
export interface Now {
  state: State;
  words: string;
  origin: string;
  asOf: number | null;
  cause: string;
  warnings: string[];
  late?: string;
}

export interface Panel {
  id: string;
  title: string;
  /** What the panel is for, such as "depth"; "none" where it has no special meaning. */
  role: string;
  kind: Kind;
  unit: string;
  by: string | null;
  /** The quantile that each curve of a breakdown is; empty where they are no quantiles. */
  quantile: string;
  /** The names of the quantiles that the panel has. */
  quantiles: string[];
  state: State;
  cause: string;
  warnings: string[];
  asOf: number | null;
  nowLabel: string;
  now: Now | null;
  atLeast: string | null;
  hidden: number;
  note: string;
  dataStart: number | null;
  relaidAt: number | null;
  details: { query?: string; lookup: string; kind?: string; series: number; scrapes?: string };
  figure: Figure;
  /** The page's own: the figure's curves, unpacked once. */
  decoded?: Curve[] | null;
}

export interface View {
  range: string | null;
  from: number;
  to: number;
  step: number;
  stepWords: string;
  by: string | null;
  /** Whether the view ends at the present. */
  follows: boolean;
  /** Until when the open step is drawn. */
  live: number | null;
}

export interface Alert {
  name: string;
  state: string;
  severity: string;
  summary?: string;
  since: number;
  until?: number | null;
  panel: string;
  labels: Record<string, string>;
}

/** The answer to a view. `takenAt` is by the server's clock. */
export interface ViewAnswer {
  view: View;
  takenAt: number;
  source: {
    reachable: boolean;
    cause?: string;
    lastSeen?: number | null;
    /** How far Prometheus's clock is ahead of the server's, in seconds. */
    offset: number;
    notice?: string;
    version?: string;
    /** What was never measured here; empty while anything is. */
    unmeasured: string;
  };
  alerts?: { list: Alert[]; more: number };
  panels: Panel[];
}

/** An answer as the page keeps it. */
export interface KeptAnswer extends ViewAnswer {
  /** What the server was asked for. */
  query: string;
  /** The server's time when it answered, and `performance.now()` then. */
  serverNow: number;
  receivedAt: number;
}

/** How arrival went against completion, a letter for each step. */
export interface FlowAnswer {
  state: State;
  states: string;
  from: number;
  step: number;
  windows: number[];
  windowWords: Record<string, string>;
  arrivedPerMinute: Packed;
  completedPerMinute: Packed;
}

export interface Flow extends Omit<FlowAnswer, "arrivedPerMinute" | "completedPerMinute"> {
  to: number;
  arrived: (number | null)[];
  completed: (number | null)[];
}

export interface Change {
  against: string;
  direction: "up" | "down" | "same" | "none";
  tone: string;
  words: string;
}

export interface Drain {
  state: string;
  brief: string;
  words: string;
}

export interface Card extends Now {
  id: string;
  level: string;
  levelWords: string;
  instead: string;
  details: Sentence[];
  unit: string;
  note: string;
  beside: string;
  changes: Change[];
  spark: { state: State; values: string } | null;
  /** How the queue moves, on the card of the queue depth. */
  drain: Drain | null;
  /** The chart that shows how the figure got there. */
  panel: string;
  /** Links to more about it. */
  pages: { path: string; title: string }[];
  ends: Record<string, CardEnd>;
}

/** The present value of a curve of the card's chart. */
export interface CardEnd {
  value: number;
  words: string;
  between: Bounds | null;
  over: string;
}

export interface Finding {
  state: string;
  reason: Sentence;
}

export interface Source {
  id: string;
  title: string;
  state: State;
  asOf: number | null;
  since: number | null;
  cause: string;
  kind: string;
  measures: string[];
  notes: string[];
}

export interface PastOperation {
  at: number;
  actor: string;
  words: string;
  result: string;
  detail: string;
}

export interface PastOperations {
  state: State;
  asOf: number | null;
  list: PastOperation[];
}

export interface FailureGroup {
  id: string;
  name: string;
  error: string;
  status?: string;
  /** Words, the name of what varies after them, words, and so on. */
  pattern: string[];
  count: number;
  lastAt: number;
  tenants: string[];
  tenantCount: number;
}

export interface FailedJob {
  id: string;
  /** The id as it is written in an address. */
  find: string;
  name: string;
  tenant: string;
  status: string;
  at: number;
  error: string;
  message: string;
}

export interface FailuresAnswer {
  state: State;
  cause: string;
  asOf: number | null;
  since: number | null;
  count: number;
  groupCount: number;
  isWhole: boolean;
  groups: FailureGroup[];
  last: FailedJob[];
}

/** What is going on now, whatever range is looked at. */
export interface OverviewAnswer {
  verdict: { state: string; words: string; reason: Sentence; findings: Finding[] };
  kpis: Card[];
  drain: Drain | null;
  sources: Source[];
  operations: PastOperations | null;
  failures: FailuresAnswer | null;
  alerts: Alert[];
  alertsMore: number;
  alertsState: State;
  alertsCause: string;
  alertsAsOf: number | null;
}

/** What the server made of the page's address. */
export interface AskedAddress {
  range: string | null;
  custom: [from: number, to: number] | null;
  by: string | null;
  step: string | number | null;
  zoom: [from: number, to: number] | null;
  remarks: string[];
}

/** What the page starts with. */
export interface Defaults {
  range: string;
  refresh: number;
  breakdowns: string[];
  base: string;
  /** What the layouts of all charts have in common. */
  layout: Record<string, any>;
}
