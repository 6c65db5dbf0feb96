// What the page uses of the chart library, its inner parts included.

interface PlotlyAxis {
  range: [string, string] & [number, number];
  type: string;
  _length: number;
  _offset: number;
  d2p(value: number | string): number;
}

interface PlotlyElement extends HTMLElement {
  data: Record<string, any>[];
  layout: Record<string, any>;
  _fullData?: { uid: string; visible: boolean | string; line: { color: string } }[];
  _fullLayout?: { xaxis: PlotlyAxis; yaxis: PlotlyAxis; _size: { t: number; h: number } };
  on(event: string, listener: (event: any) => void): void;
}

declare const Plotly: {
  Icons: { camera: object };
  Fx: { hover(plot: HTMLElement, at: object, subplot: string): void; unhover(plot: HTMLElement): void };
  react(plot: HTMLElement, data: object[], layout: object, config: object): Promise<void>;
  relayout(plot: HTMLElement, change: object): Promise<void>;
  purge(plot: HTMLElement): void;
  downloadImage(figure: object, options: object): Promise<string>;
};

interface Window {
  queuescope: object;
  queuescopeStartStreamlit?: () => void;
}
