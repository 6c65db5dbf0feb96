// In every page before its own scripts: tells when all charts stand painted.
window.benchmark = (() => {
  const CURVES = 5;
  const POINTS = 990; // of 1,000: the newest edge may not have its samples yet

  function complete(spanSeconds) {
    const plots = document.querySelectorAll(".js-plotly-plot");
    if (plots.length !== 3) return false;
    let curves = 0;
    for (const plot of plots) {
      const range = plot._fullLayout?.xaxis?.range;
      if (!range) return false;
      const span = (Date.parse(range[1]) - Date.parse(range[0])) / 1000;
      if (!(Math.abs(span / spanSeconds - 1) < 0.1)) return false;
      for (const line of plot.querySelectorAll(".scatterlayer .trace path.js-line")) {
        if (line.getAttribute("d").length > POINTS) curves += 1;
      }
      if (plot.calcdata.some((points) => points.length < POINTS)) return false;
    }
    return curves === CURVES;
  }

  // Milliseconds since navigation started, taken after the paint that shows all curves.
  function whenDrawn(spanSeconds) {
    return new Promise((resolve) => {
      const look = () => {
        if (!complete(spanSeconds)) return requestAnimationFrame(look);
        const { port1, port2 } = new MessageChannel();
        port1.onmessage = () => resolve(performance.now());
        return port2.postMessage(null);
      };
      requestAnimationFrame(look);
    });
  }

  function transferred() {
    const entries = [
      ...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource"),
    ];
    return entries.reduce((sum, entry) => sum + entry.transferSize, 0);
  }

  return { whenDrawn, transferred, cold: whenDrawn(86400) };
})();
