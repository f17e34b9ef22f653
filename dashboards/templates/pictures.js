// A click on a picture enlarges it: the image under its map, whose opacity a slider sets, and the
// map beside it. The arrow keys go on to the next picture. All of it is in the page already.
if (!window.factbookPictures) {
  window.factbookPictures = true

  const make = (name, attributes = {}, ...children) => {
    const element = Object.assign(document.createElement(name), attributes)
    element.append(...children)
    return element
  }
  const copy = (image, text) =>
    make("img", { src: image.src, alt: text, className: image.className.includes("fb-small") ? "fb-small" : "" })

  const layersOf = figure =>
    [...figure.querySelectorAll("[data-layer]")].map(one => ({
      name: one.dataset.layer,
      onImage: one.classList.contains("fb-veil"),
      image: one.dataset.shown ? figure.querySelector("img.fb-below") : one,
    }))

  const look = (figure, chosen = "", opacity = 70) => {
    document.querySelector(".fb-dialog")?.remove()
    const layers = layersOf(figure)
    const base = figure.querySelector("img.fb-base") ?? figure.querySelector("img.fb-face")
    const { caption, details } = figure.dataset
    let current = layers.find(one => one.name === chosen) ?? layers[0]

    const close = make("button", { type: "button", textContent: "Close", onclick: () => dialog.close() })
    const words = make("div", {}, make("strong", { textContent: caption }), document.createElement("br"),
      make("small", { textContent: details }))
    const both = make("div", { className: "fb-both" })
    const slider = make("input", { type: "range", min: 0, max: 100, value: opacity })
    const names = layers.map(one => make("button", {
      type: "button", textContent: one.name, onclick: () => { current = one; draw() },
    }))
    const draw = () => {
      const over = current && copy(current.image, "")
      const stack = make("span", { className: "fb-stack" }, copy(base, caption), ...(over ? [over] : []))
      const fade = () => { if (over) over.style.opacity = slider.value / 100 }
      slider.oninput = fade
      fade()
      both.replaceChildren(make("figure", {}, stack))
      if (current) {
        const alone = make("span", { className: "fb-stack fb-white" },
          ...(current.onImage ? [copy(base, "")] : []), copy(current.image, `${current.name}: ${caption}`))
        both.append(make("figure", {}, alone, make("figcaption", { textContent: current.name })))
      }
      names.forEach((button, index) => button.setAttribute("aria-pressed", layers[index] === current))
    }
    const tools = make("div", { className: "fb-tools" })
    if (layers.length) tools.append(make("label", {}, "Opacity of the map", slider))
    if (layers.length > 1) tools.append(...names)
    const dialog = make("dialog", { className: "fb-dialog" },
      make("div", { className: "fb-head" }, words, close), both, tools)
    dialog.setAttribute("aria-label", `Enlarged: ${caption}`)
    const app = getComputedStyle(document.querySelector("[data-testid=stApp]") ?? document.body)
    Object.assign(dialog.style, { background: app.backgroundColor, color: app.color, fontFamily: app.fontFamily })
    dialog.onclick = event => { if (event.target === dialog) dialog.close() }
    dialog.onclose = () => { dialog.remove(); figure.querySelector(".fb-look")?.focus() }
    dialog.onkeydown = event => {
      event.stopPropagation()
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key]
      if (!step || event.target === slider) return
      const all = [...figure.parentElement.children]
      const next = all[all.indexOf(figure) + step]
      if (next) { dialog.onclose = null; look(next, current?.name, slider.value) }
    }
    draw()
    document.body.append(dialog)
    dialog.showModal()
    close.focus()
  }

  document.addEventListener("click", event => {
    const button = event.target.closest?.(".fb-look")
    if (button) look(button.closest("figure"))
    const link = event.target.closest?.("a.fb-go")
    if (link && !(event.ctrlKey || event.metaKey || event.shiftKey || event.button)) {
      event.preventDefault()  // Streamlit shows another page of its own without loading all anew
      const to = new URL(link.href)
      if (to.pathname === location.pathname && "keep" in link.dataset) {
        const kept = new URLSearchParams(location.search)  // what else is chosen stays
        for (const key of new Set(to.searchParams.keys())) kept.delete(key)
        for (const [key, value] of to.searchParams) kept.append(key, value)
        to.search = kept
      }
      history.pushState({}, "", to.href)
      dispatchEvent(new PopStateEvent("popstate"))
    }
  })
}
