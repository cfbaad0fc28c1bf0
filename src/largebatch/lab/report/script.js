// Says a point's value beside it, on hover and on focus; arrows walk a chart, Tab goes to the next one.
// Without this script every point is a tab stop with a name, and hovering shows its title.
(() => {
  const tip = document.getElementById("tip");
  const hide = () => { tip.hidden = true; };
  const show = (point) => {
    tip.textContent = point.getAttribute("aria-label");
    tip.hidden = false;
    const marks = point.querySelectorAll(".mean, .spot, .trial, .diverged");
    const box = (marks[marks.length - 1] || point).getBoundingClientRect();
    const left = box.left + box.width / 2 - tip.offsetWidth / 2;
    const widest = document.documentElement.clientWidth - tip.offsetWidth - 8;
    const above = box.top - tip.offsetHeight - 8;
    tip.style.left = Math.max(8, Math.min(left, widest)) + window.scrollX + "px";
    tip.style.top = (above > 4 ? above : box.bottom + 8) + window.scrollY + "px";
  };
  const walk = (points, event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") hide();
    if (!step) return;
    event.preventDefault();
    const from = points.indexOf(event.currentTarget);
    const to = points[(from + step + points.length) % points.length];
    points.forEach((point) => point.setAttribute("tabindex", point === to ? "0" : "-1"));
    to.focus();
  };
  document.querySelectorAll("svg.chart").forEach((chart) => {
    const points = [...chart.querySelectorAll(".point")];
    points.forEach((point, index) => {
      const title = point.querySelector(":scope > title");
      if (title) title.remove();
      point.setAttribute("tabindex", index ? "-1" : "0");
      point.addEventListener("mouseenter", () => show(point));
      point.addEventListener("focus", () => show(point));
      point.addEventListener("mouseleave", hide);
      point.addEventListener("blur", hide);
      point.addEventListener("keydown", (event) => walk(points, event));
    });
  });
})();
