// Keys of the page of concepts: j and k or the arrows go on and back, / searches, ? says so. They do
// nothing while somebody types, chooses among options or looks at a dialog, with a modifier, and
// where they are turned off (WCAG 2.2, 2.1.4).
if (!window.factbookKeys) {
  window.factbookKeys = true

  const OFF = "factbook-keys-off"
  const BUSY = "input, textarea, select, canvas, [contenteditable=true], [role=slider], [role=grid], "
    + "[role=radiogroup], [role=radio], [role=listbox], [role=menu], [role=tablist], [role=dialog], dialog, "
    + "[data-testid=stButtonGroup], [data-testid=stDataFrame]"
  const KEYS = [
    ["j or →", "next concept"],
    ["k or ←", "previous concept"],
    ["/", "search"],
    ["?", "these keys"],
  ]

  const press = name => document.querySelector(`.st-key-${name} button:not([disabled])`)?.click()
  const actions = {
    j: () => press("next-concept"),
    ArrowRight: () => press("next-concept"),
    k: () => press("previous-concept"),
    ArrowLeft: () => press("previous-concept"),
    "/": () => document.querySelector(".st-key-label input")?.focus(),
    "?": () => tell(),
  }

  const tell = () => {
    const dialog = document.createElement("dialog")
    dialog.className = "fb-dialog fb-keys"
    dialog.setAttribute("aria-label", "Keys")
    const list = document.createElement("dl")
    for (const [key, what] of KEYS) {
      const term = document.createElement("dt")
      const drawn = document.createElement("kbd")
      drawn.textContent = key
      term.append(drawn)
      const told = document.createElement("dd")
      told.textContent = what
      list.append(term, told)
    }
    const label = document.createElement("label")
    const box = Object.assign(document.createElement("input"), { type: "checkbox", checked: !isOff() })
    box.onchange = () => localStorage.setItem(OFF, box.checked ? "" : "1")
    label.append(box, " Use these keys")
    const close = Object.assign(document.createElement("button"), { type: "button", textContent: "Close" })
    close.onclick = () => dialog.close()
    dialog.append(list, label, close)
    const app = getComputedStyle(document.querySelector("[data-testid=stApp]") ?? document.body)
    Object.assign(dialog.style, { background: app.backgroundColor, color: app.color, fontFamily: app.fontFamily })
    dialog.onclose = () => dialog.remove()
    document.body.append(dialog)
    dialog.showModal()
  }

  const isOff = () => localStorage.getItem(OFF) === "1"

  document.addEventListener("keydown", event => {
    const { key, target } = event
    if (!Object.hasOwn(actions, key) || event.defaultPrevented || event.isComposing) return
    if (event.ctrlKey || event.metaKey || event.altKey || !document.querySelector(".st-key-next-concept")) return
    if (document.querySelector("dialog[open]") || target.closest?.(BUSY)) return
    if (isOff() && key !== "?") return
    event.preventDefault()
    actions[key]()
  })
}
