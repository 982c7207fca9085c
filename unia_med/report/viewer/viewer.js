"use strict";
(() => {
  const IGNORE = 255;
  const IGNORE_COLOUR = [150, 150, 150];
  const SCALE = 3; // canvas pixels per voxel, so that outlines are thin
  // From certain to a guess; lightness grows all the way, so that it can be read without colours.
  const RAMP = [[20, 11, 52], [132, 32, 107], [229, 92, 48], [246, 215, 70], [252, 255, 214]];

  const data = JSON.parse(document.getElementById("viewer-data").textContent);
  const root = document.getElementById("slice-viewer");
  const canvas = root.querySelector("canvas");
  const part = (id) => document.getElementById(id);
  const control = (name) => root.querySelector(`[data-control="${name}"]`);
  const colours = data.classes.map((one) => [1, 3, 5].map((at) => parseInt(one.colour.slice(at, at + 2), 16)));

  const state = { patient: 0, frame: 0, slice: 0, overlay: "prediction", outline: "ground truth", opacity: 50 };
  const decoded = new Map(); // "patient/frame" -> promise of bytes
  let bytes = null; // of the frame that is shown
  let wanted = 0; // number of the latest request, so that a slow one cannot overwrite it

  const patient = () => data.patients[state.patient];
  const layers = () => ["image", ...patient().labels, ...patient().maps];
  const isMap = (name) => patient().maps.includes(name);

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

  function rampColour(value) {
    const place = (value / 255) * (RAMP.length - 1);
    const low = Math.min(Math.floor(place), RAMP.length - 2);
    return RAMP[low].map((from, index) => from + (RAMP[low + 1][index] - from) * (place - low));
  }

  const labelColour = (value) => (value === IGNORE ? IGNORE_COLOUR : colours[(value - 1) % colours.length]);

  function blend(target, at, colour, alpha) {
    for (let index = 0; index < 3; index += 1) target[at + index] += (colour[index] - target[at + index]) * alpha;
  }

  function paint() {
    const { width, height, aspect } = patient();
    const picture = new ImageData(width, height);
    const grey = plane("image");
    const over = state.overlay === "none" ? null : plane(state.overlay);
    const asMap = isMap(state.overlay);
    for (let voxel = 0; voxel < grey.length; voxel += 1) {
      const at = 4 * voxel;
      picture.data.fill(grey[voxel], at, at + 3);
      picture.data[at + 3] = 255;
      if (over === null || over[voxel] === 0) continue;
      if (asMap) blend(picture.data, at, rampColour(over[voxel]), (state.opacity / 100) * Math.min(1, over[voxel] / 64));
      else blend(picture.data, at, labelColour(over[voxel]), state.opacity / 100);
    }
    const small = new OffscreenCanvas(width, height);
    small.getContext("2d").putImageData(picture, 0, 0);
    canvas.width = width * SCALE;
    canvas.height = Math.round(height * SCALE * aspect);
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(small, 0, 0, canvas.width, canvas.height);
    if (state.outline !== "none") outline(context, plane(state.outline), width, height, SCALE, SCALE * aspect);
  }

  function outline(context, labels, width, height, stepX, stepY) {
    const value = (x, y) => (x < 0 || y < 0 || x >= width || y >= height ? 0 : labels[y * width + x]);
    for (const pass of [{ colour: () => "#000", thick: 3.5 }, { colour: (label) => `rgb(${labelColour(label)})`, thick: 1.8 }]) {
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

  function describe() {
    const one = patient();
    const frame = one.frames[state.frame];
    const parts = [frame.title, `slice ${one.slices[state.slice]} of ${one.depth}`];
    if (one.frames.length > 1) parts.push(`frame ${state.frame + 1} of ${one.frames.length}`);
    const painted = state.overlay === "none" ? "image alone" : `${state.overlay} at ${state.opacity} %`;
    const lined = state.outline === "none" ? "no outline" : `outline: ${state.outline}`;
    part("viewer-state").textContent = `${parts.join(", ")}. ${painted}; ${lined}.`;
    canvas.setAttribute("aria-label", `Slice viewer: ${parts.join(", ")}, ${painted}, ${lined}`);
    part("viewer-note").textContent = one.note ? `To keep this page small: ${one.note}.` : "";
  }

  function legend() {
    const list = part("viewer-legend");
    list.replaceChildren();
    const add = (className, background, text) => {
      const item = document.createElement("li");
      const sample = document.createElement("span");
      sample.className = className;
      sample.style.background = background;
      item.append(sample, ` ${text}`);
      list.append(item);
    };
    data.classes.forEach((one) => add("swatch", one.colour, one.name));
    if (isMap(state.overlay)) {
      add("ramp", `linear-gradient(to right, ${RAMP.map((colour) => `rgb(${colour})`).join(", ")})`, "certain to a guess");
    } else if (state.overlay !== "none" && bytes && bytes.length && plane(state.overlay).includes(IGNORE)) {
      add("swatch", `rgb(${IGNORE_COLOUR})`, "no label");
    }
  }

  function fill(select, names, chosen) {
    select.replaceChildren(...names.map((name) => new Option(name, name, false, name === chosen)));
  }

  const clamp = (value, most) => Math.max(0, Math.min(most, value));

  function syncControls() {
    const one = patient();
    const names = ["none", ...one.labels, ...one.maps];
    if (!names.includes(state.overlay)) state.overlay = "none";
    if (!one.labels.includes(state.outline)) state.outline = "none";
    fill(control("overlay"), names, state.overlay);
    fill(control("outline"), ["none", ...one.labels], state.outline);
    control("patient").value = String(state.patient);
    control("slice").max = String(one.slices.length - 1);
    control("slice").value = String(state.slice);
    control("slice").setAttribute("aria-valuetext", `slice ${one.slices[state.slice]} of ${one.depth}`);
    control("frame").max = String(one.frames.length - 1);
    control("frame").value = String(state.frame);
    control("opacity").value = String(state.opacity);
    root.querySelector('[data-part="frame"]').hidden = one.frames.length < 2;
  }

  async function show(changes) {
    const moves = changes.patient !== undefined && changes.patient !== state.patient;
    Object.assign(state, changes);
    state.patient = clamp(state.patient, data.patients.length - 1);
    state.frame = clamp(moves && changes.frame === undefined ? 0 : state.frame, patient().frames.length - 1);
    if (moves) state.slice = Math.floor(patient().slices.length / 2);
    state.slice = clamp(state.slice, patient().slices.length - 1);
    state.opacity = clamp(state.opacity, 100);
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

  function voxelUnder(event) {
    const box = canvas.getBoundingClientRect();
    const { width, height } = patient();
    // The picture is fitted into the box and may leave bars at its sides.
    const fit = Math.min(box.width / canvas.width, box.height / canvas.height);
    const x = (event.clientX - box.left - (box.width - canvas.width * fit) / 2) / (canvas.width * fit);
    const y = (event.clientY - box.top - (box.height - canvas.height * fit) / 2) / (canvas.height * fit);
    return x < 0 || y < 0 || x >= 1 || y >= 1 ? null : Math.floor(y * height) * width + Math.floor(x * width);
  }

  function readOut(event) {
    const voxel = bytes === null ? null : voxelUnder(event);
    if (voxel === null) return;
    const name = (value) => (value === 0 ? "background" : value === IGNORE ? "no label" : data.classes[value - 1].name);
    const labels = patient().labels.slice(0, 2).map((layer) => `${layer}: ${name(plane(layer)[voxel])}`);
    const maps = patient().maps.slice(0, 1).map((layer) => `${layer}: ${(plane(layer)[voxel] / 255).toFixed(2)}`);
    part("viewer-voxel").textContent = [...labels, ...maps].join(", ");
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

  for (const name of ["patient", "slice", "frame", "opacity"]) {
    control(name).addEventListener("input", (event) => show({ [name]: Number(event.target.value) }));
  }
  for (const name of ["overlay", "outline"]) {
    control(name).addEventListener("input", (event) => show({ [name]: event.target.value }));
  }
  canvas.addEventListener("keydown", onKey);
  canvas.addEventListener("pointermove", readOut);
  canvas.addEventListener("pointerleave", () => { part("viewer-voxel").textContent = ""; });
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    show({ slice: state.slice + (event.deltaY > 0 ? -1 : 1) });
  }, { passive: false });
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
