// Zoom and move the map; without script it is a still picture.
(() => {
  const map = document.getElementById("map");
  if (!map) return;
  const sheet = map.querySelector(".view");
  const home = sheet.viewBox.baseVal, start = [home.x, home.y, home.width, home.height];
  let view = [...start], held = null;
  const show = () => {
    sheet.setAttribute("viewBox", view.join(" "));
    map.style.setProperty("--zoom", view[2] / start[2]);
    const zoomed = view[2] < start[2] * 0.999;
    map.classList.toggle("zoomed", zoomed);
    map.querySelector(".furniture").style.display = zoomed ? "none" : "";
  };
  const place = (event) => {
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(map.getScreenCTM().inverse());
    return [view[0] + (at.x - start[0]) * view[2] / start[2], view[1] + (at.y - start[1]) * view[3] / start[3]];
  };
  const zoom = (factor, x = view[0] + view[2] / 2, y = view[1] + view[3] / 2) => {
    const width = Math.min(Math.max(view[2] * factor, start[2] / 400), start[2]);
    const ratio = width / view[2];
    view = width === start[2] ? [...start] : [x - (x - view[0]) * ratio, y - (y - view[1]) * ratio, width, view[3] * ratio];
    show();
  };
  map.addEventListener("wheel", (event) => {
    // The wheel alone scrolls the page.
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    zoom(Math.min(Math.max(Math.exp(event.deltaY * 0.002), 0.5), 2), ...place(event));
  }, { passive: false });
  map.addEventListener("pointerdown", (event) => {
    if (!map.classList.contains("zoomed")) return;
    held = place(event);
    map.setPointerCapture(event.pointerId);
  });
  map.addEventListener("pointermove", (event) => {
    if (!held) return;
    const [x, y] = place(event);
    view[0] += held[0] - x;
    view[1] += held[1] - y;
    show();
  });
  map.addEventListener("pointerup", () => { held = null; });
  map.addEventListener("dblclick", (event) => zoom(0.4, ...place(event)));
  document.getElementById("tools").hidden = false;
  for (const [name, act] of [["in", () => zoom(0.6)], ["out", () => zoom(1 / 0.6)], ["all", () => zoom(1e9)]]) {
    document.getElementById("zoom-" + name).addEventListener("click", act);
  }
})();
