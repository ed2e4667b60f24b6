// What happens in the page itself: the slider, hints, corners, the large view, keys. Everything that is kept is the
// server's; this file sends what was done through gradio's `trigger`.
(() => {
  if (window.panelhueStudio) return;
  const all = (root, selector) => [...root.querySelectorAll(selector)];
  const studio = (window.panelhueStudio = { base: document.baseURI });

  // ---- the strip of pages
  studio.strip = (element, trigger, watch) => {
    element.addEventListener("click", (event) => {
      const button = event.target.closest("[data-pick]");
      if (button) trigger("pick", { place: Number(button.dataset.pick) });
    });
    watch("value", () => {
      const current = element.querySelector("[aria-current]");
      const strip = element.querySelector(".ph-strip");
      if (!current || !strip) return;
      const item = current.parentElement;
      const left = item.offsetLeft - strip.offsetLeft;
      if (left < strip.scrollLeft || left + item.offsetWidth > strip.scrollLeft + strip.clientWidth) {
        strip.scrollTo({ left: left - strip.clientWidth / 2 + item.offsetWidth / 2 });
      }
    });
  };

  // ---- the viewer
  const CORNERS = { tl: [0, 0], tr: [0.25, 0], bl: [0, 0.25], br: [0.25, 0.25] };

  studio.viewer = (element, trigger, watch) => {
    const state = { mode: false, corners: null, rgb: "#cc3322", size: "0.004", cut: 50, cross: [0.5, 0.5], place: "" };
    const stage = () => element.querySelector(".ph-stage");

    const sync = () => {
      const place = element.querySelector(".ph-viewer")?.dataset.place ?? "";
      if (place !== state.place) Object.assign(state, { place, corners: null, cross: [0.5, 0.5] });
      element.style.setProperty("--cut", state.cut + "%");
      element.style.setProperty("--cross-x", 100 * state.cross[0] + "%");
      element.style.setProperty("--cross-y", 100 * state.cross[1] + "%");
      element.classList.toggle("ph-hint-mode", state.mode);
      element.classList.toggle("ph-cornered", state.corners !== null);
      const set = (selector, change) => all(element, selector).forEach(change);
      set("[data-mode]", (one) => one.setAttribute("aria-pressed", state.mode));
      set("[data-cut]", (one) => (one.value = state.cut));
      set("[data-rgb]", (one) => (one.value = state.rgb));
      set("[data-size]", (one) => (one.value = state.size));
      set("[data-colour]", (one) => one.setAttribute("aria-pressed", one.dataset.colour === state.rgb));
      const shown = (key) => state.corners === null || state.corners.includes(key);
      set("i[data-corner]", (one) => one.classList.toggle("ph-on", state.corners !== null && shown(one.dataset.corner)));
      set("button[data-corner]", (one) => {
        const key = one.dataset.corner;
        one.setAttribute("aria-pressed", key ? state.corners?.length === 1 && shown(key) : state.corners === null);
      });
      set("[data-corners]", (one) => one.classList.toggle("ph-dim", !one.dataset.corners.split(" ").some(shown)));
    };

    const hint = (x, y) => trigger("hint", { place: Number(state.place), x, y, rgb: state.rgb, size: Number(state.size) });
    const at = (event) => {
      const box = stage().getBoundingClientRect();
      return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    };

    let down = null;
    element.addEventListener("pointerdown", (event) => {
      if (event.target.closest(".ph-stage") && event.button === 0) down = { x: event.clientX, y: event.clientY, moved: false };
    });
    window.addEventListener("pointermove", (event) => {
      if (!down || state.mode || !stage()?.querySelector(".ph-colour")) return;
      if (!down.moved && Math.abs(event.clientX - down.x) < 6) return;
      down.moved = true;
      state.cut = Math.round(100 * Math.min(1, Math.max(0, at(event)[0])));
      sync();
    });
    window.addEventListener("pointerup", (event) => {
      const begun = down;
      down = null;
      if (!begun || begun.moved || !event.target.closest?.(".ph-stage") || !element.contains(event.target)) return;
      const [x, y] = at(event);
      if (x < 0 || y < 0 || x >= 1 || y >= 1) return;
      state.cross = [x, y];
      if (state.mode) hint(x, y);
      else state.corners = Object.keys(CORNERS).filter((key) => {
        const [left, top] = CORNERS[key];
        return x >= left && x < left + 0.75 && y >= top && y < top + 0.75;
      });
      sync();
    });
    window.addEventListener("pointercancel", () => (down = null));

    element.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (!button || button.disabled) return;
      const { act, corner, colour } = button.dataset;
      if (act === "recolour") trigger("recolour", { place: Number(state.place) });
      else if (act) trigger("act", { act, place: Number(state.place), hint: Number(button.dataset.hint ?? -1) });
      else if ("mode" in button.dataset) state.mode = !state.mode;
      else if (corner !== undefined) state.corners = corner ? [corner] : null;
      else if (colour) Object.assign(state, { rgb: colour, mode: true });
      else return;
      sync();
    });
    element.addEventListener("input", (event) => {
      const { dataset, value } = event.target;
      if ("cut" in dataset) state.cut = Number(value);
      if ("rgb" in dataset) Object.assign(state, { rgb: value, mode: true });
      if ("size" in dataset) state.size = value;
      sync();
    });
    element.addEventListener("keydown", (event) => {
      if (!event.target.matches(".ph-stage")) return;
      const step = event.shiftKey ? 0.1 : 0.01;
      const move = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[event.key];
      if (move) state.cross = state.cross.map((value, axis) => Math.min(0.999, Math.max(0, value + move[axis])));
      else if (event.key === "Enter" && state.mode) hint(...state.cross);
      else return;
      event.preventDefault();
      sync();
    });
    studio.compare = () => {
      state.cut = state.cut === 0 ? 100 : state.cut === 100 ? 50 : 0;
      sync();
    };
    watch("value", sync);
    sync();
  };

  // ---- the palette
  studio.palette = (element, trigger) => {
    element.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      const list = element.querySelector("ul");
      if (!button || !list) return;
      if ("less" in button.dataset) {
        if (list.children.length > 1) button.closest("li").remove();
        list.querySelector("li:last-child input[type=text]")?.focus();
      } else if ("more" in button.dataset) {
        const row = list.lastElementChild.cloneNode(true);
        row.querySelector("input[type=text]").value = "";
        list.append(row);
        row.querySelector("input[type=text]").focus();
      }
    });
    element.addEventListener("submit", (event) => {
      event.preventDefault();
      const colours = all(element, "li").map((row) => ({
        rgb: row.querySelector("input[type=color]").value,
        name: row.querySelector("input[type=text]").value,
      }));
      trigger("save", { colours, series: element.querySelector("form").dataset.series });
    });
  };

  // ---- the wall: the large view asks the server to remove a reference through it
  studio.wall = (element, trigger) => {
    studio.remove = (reference) => trigger("remove", { reference });
  };

  const large = (button) => {
    const dialog = document.createElement("dialog");
    dialog.className = "ph-dialog";
    dialog.setAttribute("aria-label", "Reference");
    const figure = document.createElement("div");
    figure.className = "ph-thumb";
    const image = new Image();
    image.src = new URL(button.dataset.show, studio.base);
    image.alt = button.dataset.facts.split("\n")[0];
    figure.append(image);
    if (button.dataset.box) {
      const [left, top, width, height] = button.dataset.box.split(",");
      const box = document.createElement("i");
      Object.assign(box.style, { left: left + "%", top: top + "%", width: width + "%", height: height + "%" });
      figure.append(box);
    }
    const list = document.createElement("ul");
    for (const fact of button.dataset.facts.split("\n")) {
      const item = document.createElement("li");
      item.textContent = fact;
      list.append(item);
    }
    const close = document.createElement("button");
    Object.assign(close, { type: "button", className: "ph-button", textContent: "Close" });
    close.onclick = () => dialog.close();
    const buttons = document.createElement("div");
    buttons.className = "ph-buttons";
    buttons.append(close);
    if (button.dataset.reference) {
      const remove = document.createElement("button");
      Object.assign(remove, { type: "button", className: "ph-button ph-danger", textContent: "Remove from the pool" });
      remove.onclick = () => {
        if (remove.dataset.sure) {
          studio.remove(button.dataset.reference);
          dialog.close();
        }
        remove.dataset.sure = "1";
        remove.textContent = "Really remove it?";
      };
      buttons.append(remove);
    }
    const side = document.createElement("div");
    side.append(list, buttons);
    dialog.append(figure, side);
    document.querySelector(".gradio-container .contain").append(dialog);
    dialog.addEventListener("close", () => {
      dialog.remove();
      button.focus();
    });
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
    dialog.showModal();
    close.focus();
  };

  // ---- notices
  studio.notice = (element, trigger, watch, props) => {
    element.addEventListener("click", (event) => event.target.closest("[data-dismiss]") && (props.value = ""));
  };

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-show]");
    if (button) large(button);
  });
  document.addEventListener("error", (event) => event.target.matches?.("img[src*='ph-studio/']") && event.target.classList.add("ph-broken"), true);
  document.addEventListener("load", (event) => event.target.matches?.("img.ph-broken") && event.target.classList.remove("ph-broken"), true);

  // ---- keys
  const KEYS = { j: "next", k: "previous", a: "approve", x: "reject", r: "recolour" };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    if (event.target.closest("input:not([type=range]), textarea, select, [contenteditable=true], dialog, [role=listbox]")) return;
    const viewer = all(document, ".ph-viewer").find((one) => one.offsetParent !== null);
    if (!viewer) return;
    const act = KEYS[event.key];
    if (act) viewer.querySelector(`[data-act=${act}]:not([disabled])`)?.click();
    else if (event.key === "h") viewer.querySelector("[data-mode]")?.click();
    else if (event.key === "c") studio.compare?.();
    else return;
    event.preventDefault();
  });
})();
