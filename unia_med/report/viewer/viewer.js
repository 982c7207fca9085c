"use strict";
(() => {
  const IGNORE = 255;
  const IGNORE_COLOUR = [150, 150, 150];
  const LONG_SIDE = 1000; // canvas pixels, so that outlines and letters are sharp
  const MOST_ZOOM = 8;
  // From certain to a guess; lightness grows all the way, so that it can be read without colours.
  const RAMP = [[20, 11, 52], [132, 32, 107], [229, 92, 48], [246, 215, 70], [252, 255, 214]];
  const WINDOW = { level: 127, width: 255 }; // of bytes: all that is kept
  const VIEW = { zoom: 1, x: 0.5, y: 0.5 }; // centre as shares of the picture

  const data = JSON.parse(document.getElementById("viewer-data").textContent);
  const root = document.getElementById("slice-viewer");
  const canvas = root.querySelector("canvas");
  const part = (id) => document.getElementById(id);
  const control = (name) => root.querySelector(`[data-control="${name}"]`);
  const number = (name, text) => { root.querySelector(`[data-number="${name}"]`).textContent = text; };
  const colours = data.classes.map((one) => [1, 3, 5].map((at) => parseInt(one.colour.slice(at, at + 2), 16)));

  const state = {
    patient: 0, frame: 0, slice: 0, overlay: "prediction", outline: "true mask", opacity: 50, ...WINDOW, ...VIEW,
  };
  const decoded = new Map(); // "patient/frame" -> promise of bytes
  let bytes = null; // of the frame that is shown
  let wanted = 0; // number of the latest request, so that a slow one cannot overwrite it

  const patient = () => data.patients[state.patient];
  const layers = () => ["image", ...patient().labels, ...patient().maps];
  const isMap = (name) => patient().maps.includes(name);
  const clamp = (value, most, least = 0) => Math.max(least, Math.min(most, value));
  const isNumbered = (frame) => frame.title.startsWith("frame ");
  const short = (value) => String(Number(value.toPrecision(3)));

  async function decode(text) {
    const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  function frameBytes() {
    const key = `${state.patient}/${state.frame}`;
    if (!decoded.has(key)) {
      if (decoded.size >= 8) decoded.delete(decoded.keys().next().value);
      decoded.set(key, decode(patient().frames[state.frame].data));
    }
    return decoded.get(key);
  }

  function plane(name) {
    const { width, height, slices } = patient();
    const size = width * height;
    const start = (layers().indexOf(name) * slices.length + state.slice) * size;
    return bytes.subarray(start, start + size);
  }

  // From a byte to what it stands for.
  const mapValue = (name, byte) => {
    const [low, high] = patient().ranges[patient().maps.indexOf(name)];
    return low + (byte / 255) * (high - low);
  };
  const intensity = (byte) => patient().window[0] + (byte / 255) * (patient().window[1] - patient().window[0]);

  function rampColour(value) {
    const place = (value / 255) * (RAMP.length - 1);
    const low = Math.min(Math.floor(place), RAMP.length - 2);
    return RAMP[low].map((from, index) => from + (RAMP[low + 1][index] - from) * (place - low));
  }

  const labelColour = (value) => (value === IGNORE ? IGNORE_COLOUR : colours[(value - 1) % colours.length]);

  function blend(target, at, colour, alpha) {
    for (let index = 0; index < 3; index += 1) target[at + index] += (colour[index] - target[at + index]) * alpha;
  }

  // What of the picture is seen, in voxels; and canvas pixels per voxel.
  function view() {
    const { width, height, aspect } = patient();
    const step = Math.max(1, LONG_SIDE / Math.max(width, height * aspect));
    canvas.width = Math.round(width * step);
    canvas.height = Math.round(height * step * aspect);
    const half = 0.5 / state.zoom;
    state.x = clamp(state.x, 1 - half, half);
    state.y = clamp(state.y, 1 - half, half);
    const stepX = (canvas.width / width) * state.zoom;
    const stepY = (canvas.height / height) * state.zoom;
    return { left: (state.x - half) * width, top: (state.y - half) * height, stepX, stepY };
  }

  function coloured() {
    const { width, height } = patient();
    const picture = new ImageData(width, height);
    const grey = plane("image");
    const over = state.overlay === "none" ? null : plane(state.overlay);
    const asMap = isMap(state.overlay);
    const dark = state.level - state.width / 2;
    for (let voxel = 0; voxel < grey.length; voxel += 1) {
      const at = 4 * voxel;
      picture.data.fill(((grey[voxel] - dark) / state.width) * 255, at, at + 3); // clamped by its type
      picture.data[at + 3] = 255;
      if (over === null || over[voxel] === 0) continue;
      if (asMap) blend(picture.data, at, rampColour(over[voxel]), (state.opacity / 100) * Math.min(1, over[voxel] / 64));
      else blend(picture.data, at, labelColour(over[voxel]), state.opacity / 100);
    }
    const small = new OffscreenCanvas(width, height);
    small.getContext("2d").putImageData(picture, 0, 0);
    return small;
  }

  function paint() {
    const { width, height } = patient();
    const seen = view();
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.translate(-seen.left * seen.stepX, -seen.top * seen.stepY);
    context.drawImage(coloured(), 0, 0, width * seen.stepX, height * seen.stepY);
    if (state.outline !== "none") outline(context, plane(state.outline), width, height, seen.stepX, seen.stepY);
    context.setTransform(1, 0, 0, 1, 0, 0);
    letters(context);
    scaleBar(context, seen.stepX);
  }

  function outline(context, labels, width, height, stepX, stepY) {
    const value = (x, y) => (x < 0 || y < 0 || x >= width || y >= height ? 0 : labels[y * width + x]);
    const thin = Math.max(canvas.width, canvas.height) / 350;
    for (const pass of [{ colour: () => "#000", thick: 2 * thin }, { colour: (label) => `rgb(${labelColour(label)})`, thick: thin }]) {
      const paths = new Map();
      for (let y = 0; y <= height; y += 1) {
        for (let x = 0; x <= width; x += 1) {
          const here = value(x, y);
          const pairs = [[value(x - 1, y), x, y, x, y + 1], [value(x, y - 1), x, y, x + 1, y]];
          for (const [other, x1, y1, x2, y2] of pairs) {
            if (other === here) continue;
            const label = Math.max(here === IGNORE ? 0 : here, other === IGNORE ? 0 : other) || IGNORE;
            if (!paths.has(label)) paths.set(label, new Path2D());
            paths.get(label).moveTo(x1 * stepX, y1 * stepY);
            paths.get(label).lineTo(x2 * stepX, y2 * stepY);
          }
        }
      }
      context.lineWidth = pass.thick;
      context.lineCap = "round";
      for (const [label, path] of paths) {
        context.strokeStyle = pass.colour(label);
        context.stroke(path);
      }
    }
  }

  const letterSize = () => Math.round(Math.max(canvas.width, canvas.height) / 26);

  function text(context, words, x, y, across, down) {
    context.font = `600 ${letterSize()}px system-ui, sans-serif`;
    context.textAlign = across;
    context.textBaseline = down;
    context.lineWidth = letterSize() / 5;
    context.lineJoin = "round";
    context.strokeStyle = "#000";
    context.fillStyle = "#fff";
    context.strokeText(words, x, y);
    context.fillText(words, x, y);
  }

  function letters(context) {
    const { sides } = patient();
    const gap = letterSize() / 3;
    if (!sides.left) return;
    text(context, sides.left, gap, canvas.height / 2, "left", "middle");
    text(context, sides.right, canvas.width - gap, canvas.height / 2, "right", "middle");
    text(context, sides.top, canvas.width / 2, gap, "center", "top");
    text(context, sides.bottom, canvas.width / 2, canvas.height - gap, "center", "bottom");
  }

  // The longest round length that takes at most a third of the width.
  function barLength(stepX) {
    const most = (canvas.width / 3 / stepX) * patient().pixel;
    const power = 10 ** Math.floor(Math.log10(most));
    return [5, 2, 1].map((factor) => factor * power).find((length) => length <= most);
  }

  function scaleBar(context, stepX) {
    const length = barLength(stepX);
    const pixels = (length / patient().pixel) * stepX;
    const gap = letterSize() / 2;
    const x = gap;
    const y = canvas.height - gap;
    for (const [colour, thick] of [["#000", letterSize() / 3], ["#fff", letterSize() / 7]]) {
      context.strokeStyle = colour;
      context.lineWidth = thick;
      context.lineCap = "butt";
      context.beginPath();
      context.moveTo(x, y);
      context.lineTo(x + pixels, y);
      context.stroke();
    }
    text(context, `${short(length)} ${patient().unit}`, x, y - gap / 2, "left", "bottom");
    canvas.dataset.scaleBar = `${short(length)} ${patient().unit}`;
  }

  function describe() {
    const one = patient();
    const frame = one.frames[state.frame];
    const parts = [frame.title, `slice ${one.slices[state.slice]} of ${one.depth}`];
    if (one.frames.length > 1 && !isNumbered(frame)) parts.push(`frame ${state.frame + 1} of ${one.frames.length}`);
    const painted = state.overlay === "none" ? "image alone" : `${state.overlay} at ${state.opacity} %`;
    const lined = state.outline === "none" ? "no outline" : `outline: ${state.outline}`;
    const zoomed = state.zoom > 1 ? `; zoom ${state.zoom}` : "";
    part("viewer-state").textContent = `${parts.join(", ")}. ${painted}; ${lined}${zoomed}.`;
    const sides = one.sides.left ? `, left of the picture: ${one.sides.left}, above: ${one.sides.top}` : "";
    canvas.setAttribute("aria-label", `Slice viewer: ${parts.join(", ")}, ${painted}, ${lined}${sides}`);
    part("viewer-note").textContent = one.note ? `To keep this page small: ${one.note}.` : "";
  }

  function legend() {
    const list = part("viewer-legend");
    list.replaceChildren();
    const add = (className, background, words) => {
      const item = document.createElement("li");
      const sample = document.createElement("span");
      sample.className = className;
      sample.style.background = background;
      item.append(sample, ` ${words}`);
      list.append(item);
    };
    data.classes.forEach((one) => add("swatch", one.colour, one.name));
    if (isMap(state.overlay)) {
      const [low, high] = patient().ranges[patient().maps.indexOf(state.overlay)];
      const ramp = `linear-gradient(to right, ${RAMP.map((colour) => `rgb(${colour})`).join(", ")})`;
      add("ramp", ramp, `${state.overlay}: ${short(low)} to ${short(high)}, this patient's range (0 certain, 1 a guess)`);
    } else if (state.overlay !== "none" && bytes && bytes.length && plane(state.overlay).includes(IGNORE)) {
      add("swatch", `rgb(${IGNORE_COLOUR})`, "no label");
    }
  }

  function fill(select, names, chosen) {
    select.replaceChildren(...names.map((name) => new Option(name, name, false, name === chosen)));
  }

  // Buttons that go to the frames that are marked, such as ED and ES.
  function marks(one) {
    const place = root.querySelector('[data-part="marks"]');
    place.replaceChildren(...(one.frames.length < 2 ? [] : one.marked).map((index) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = one.frames[index].title;
      button.setAttribute("aria-pressed", String(index === state.frame));
      button.addEventListener("click", () => show({ frame: index }));
      return button;
    }));
  }

  function syncControls() {
    const one = patient();
    const names = ["none", ...one.labels, ...one.maps];
    if (!names.includes(state.overlay)) state.overlay = "none";
    if (!one.labels.includes(state.outline)) state.outline = "none";
    fill(control("overlay"), names, state.overlay);
    fill(control("outline"), ["none", ...one.labels], state.outline);
    control("slice").max = String(one.slices.length - 1);
    control("frame").max = String(one.frames.length - 1);
    for (const name of ["patient", "slice", "frame", "opacity", "zoom", "level", "width"]) {
      control(name).value = String(state[name]);
    }
    const span = one.window[1] - one.window[0];
    number("slice", `${one.slices[state.slice]} of ${one.depth}`);
    const frame = one.frames[state.frame];
    const place = `${state.frame + 1} of ${one.frames.length}`;
    number("frame", isNumbered(frame) ? frame.title.slice("frame ".length) : place); // not all frames may be here
    number("opacity", `${state.opacity} %`);
    number("zoom", `${state.zoom} x`);
    number("level", short(intensity(state.level)));
    number("width", short((state.width / 255) * span));
    for (const name of ["slice", "frame", "opacity", "zoom", "level", "width"]) {
      control(name).setAttribute("aria-valuetext", root.querySelector(`[data-number="${name}"]`).textContent);
    }
    root.querySelector('[data-part="frame"]').hidden = one.frames.length < 2;
    marks(one);
    canvas.classList.toggle("zoomed", state.zoom > 1);
  }

  async function show(changes) {
    const moves = changes.patient !== undefined && changes.patient !== state.patient;
    Object.assign(state, changes);
    state.patient = clamp(state.patient, data.patients.length - 1);
    state.frame = clamp(moves && changes.frame === undefined ? 0 : state.frame, patient().frames.length - 1);
    if (moves) Object.assign(state, WINDOW, VIEW, { slice: Math.floor(patient().slices.length / 2) });
    state.slice = clamp(state.slice, patient().slices.length - 1);
    state.opacity = clamp(state.opacity, 100);
    state.zoom = clamp(Math.round(state.zoom * 4) / 4, MOST_ZOOM, 1);
    syncControls();
    const mine = (wanted += 1);
    try {
      const found = await frameBytes();
      if (mine !== wanted) return;
      bytes = found;
      paint();
      legend();
      describe();
    } catch (error) {
      part("viewer-state").textContent = `This browser cannot show the slices (${error.message}). A newer one can.`;
    }
  }

  // Place of a pointer as shares of the canvas; the picture is fitted into its box and may leave bars at its sides.
  function placeOf(event) {
    const box = canvas.getBoundingClientRect();
    const fit = Math.min(box.width / canvas.width, box.height / canvas.height);
    const x = (event.clientX - box.left - (box.width - canvas.width * fit) / 2) / (canvas.width * fit);
    const y = (event.clientY - box.top - (box.height - canvas.height * fit) / 2) / (canvas.height * fit);
    return { x, y };
  }

  function voxelUnder(event) {
    const { x, y } = placeOf(event);
    if (x < 0 || y < 0 || x >= 1 || y >= 1) return null;
    const { width, height } = patient();
    const across = state.x + (x - 0.5) / state.zoom;
    const down = state.y + (y - 0.5) / state.zoom;
    return clamp(Math.floor(down * height), height - 1) * width + clamp(Math.floor(across * width), width - 1);
  }

  function readOut(event) {
    const voxel = bytes === null ? null : voxelUnder(event);
    if (voxel === null) return;
    const name = (value) => (value === 0 ? "background" : value === IGNORE ? "no label" : data.classes[value - 1].name);
    const labels = patient().labels.slice(0, 2).map((layer) => `${layer}: ${name(plane(layer)[voxel])}`);
    const maps = patient().maps.map((layer) => `${layer}: ${short(mapValue(layer, plane(layer)[voxel]))}`);
    const grey = `intensity ${short(intensity(plane("image")[voxel]))}`;
    part("viewer-voxel").textContent = [...labels, ...maps, grey].join(", ");
  }

  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const names = ["none", ...patient().labels, ...patient().maps];
    const outlines = ["none", ...patient().labels];
    const next = outlines[(outlines.indexOf(state.outline) + 1) % outlines.length];
    const actions = {
      ArrowUp: { slice: state.slice + 1 },
      ArrowDown: { slice: state.slice - 1 },
      ArrowRight: { frame: (state.frame + 1) % patient().frames.length },
      ArrowLeft: { frame: (state.frame + patient().frames.length - 1) % patient().frames.length },
      p: { patient: (state.patient + 1) % data.patients.length },
      o: { outline: next },
      z: { zoom: state.zoom + 0.5 },
      x: { zoom: state.zoom - 0.5 },
      r: { ...VIEW, ...WINDOW },
      "+": { opacity: state.opacity + 10 },
      "=": { opacity: state.opacity + 10 },
      "-": { opacity: state.opacity - 10 },
    };
    const digit = /^[0-9]$/.test(event.key) ? names[Number(event.key)] : undefined;
    const action = digit === undefined ? actions[event.key.length === 1 ? event.key.toLowerCase() : event.key] : { overlay: digit };
    if (action === undefined) return;
    event.preventDefault();
    show(action);
  }

  // Zoom so that what lies under the pointer stays there.
  function zoomAt(place, zoom) {
    const target = clamp(Math.round(zoom * 4) / 4, MOST_ZOOM, 1);
    const x = state.x + (place.x - 0.5) * (1 / state.zoom - 1 / target);
    const y = state.y + (place.y - 0.5) * (1 / state.zoom - 1 / target);
    show({ zoom: target, x, y });
  }

  let turned = 0; // of the wheel since the last slice; touch pads send many small steps
  function onWheel(event) {
    if (event.ctrlKey) {
      event.preventDefault();
      zoomAt(placeOf(event), state.zoom - Math.sign(event.deltaY) * 0.5);
      return;
    }
    const forward = event.deltaY < 0;
    const end = forward ? patient().slices.length - 1 : 0;
    if (state.slice === end || event.deltaY === 0) { // at the ends of the stack the page scrolls on
      turned = 0;
      return;
    }
    event.preventDefault();
    turned = Math.sign(turned) === Math.sign(event.deltaY) ? turned + event.deltaY : event.deltaY;
    if (event.deltaMode === 0 && Math.abs(turned) < 40) return;
    turned = 0;
    show({ slice: state.slice + (forward ? 1 : -1) });
  }

  const pointers = new Map(); // of fingers or the mouse that are down
  let pinch = null; // distance and zoom when two fingers came down
  const apart = () => {
    const [one, other] = [...pointers.values()];
    return Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
  };

  function onDown(event) {
    pointers.set(event.pointerId, event);
    if (pointers.size === 2) pinch = { apart: apart(), zoom: state.zoom };
    if (state.zoom > 1) canvas.setPointerCapture(event.pointerId);
  }

  function onMove(event) {
    const before = pointers.get(event.pointerId);
    if (before === undefined) {
      readOut(event);
      return;
    }
    const from = placeOf(before);
    pointers.set(event.pointerId, event);
    const to = placeOf(event);
    if (pointers.size === 2 && pinch !== null) zoomAt(to, (pinch.zoom * apart()) / Math.max(1, pinch.apart));
    else if (state.zoom > 1) show({ x: state.x - (to.x - from.x) / state.zoom, y: state.y - (to.y - from.y) / state.zoom });
    readOut(event);
  }

  function onUp(event) {
    pointers.delete(event.pointerId);
    if (pointers.size < 2) pinch = null;
  }

  for (const name of ["patient", "slice", "frame", "opacity", "zoom", "level", "width"]) {
    control(name).addEventListener("input", (event) => show({ [name]: Number(event.target.value) }));
  }
  for (const name of ["overlay", "outline"]) {
    control(name).addEventListener("input", (event) => show({ [name]: event.target.value }));
  }
  control("reset").addEventListener("click", () => show({ ...VIEW, ...WINDOW }));
  canvas.addEventListener("keydown", onKey);
  canvas.addEventListener("pointerdown", onDown);
  canvas.addEventListener("pointermove", onMove);
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, onUp);
  canvas.addEventListener("pointerleave", (event) => {
    if (!canvas.hasPointerCapture(event.pointerId)) onUp(event);
    part("viewer-voxel").textContent = "";
  });
  canvas.addEventListener("wheel", onWheel, { passive: false });
  for (const link of document.querySelectorAll("a[data-patient]")) {
    link.addEventListener("click", () => {
      const index = Number(link.dataset.patient);
      const frame = data.patients[index].frames.findIndex((one) => one.title.split(",")[0] === link.dataset.case);
      show({ patient: index, frame: Math.max(0, frame) });
      canvas.focus({ preventScroll: true });
    });
  }
  show({ slice: Math.floor(patient().slices.length / 2) });
})();
