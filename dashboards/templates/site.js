// Shows the data of a site: one page, whose address says behind # which run, and what of it.
// Data come as scripts, data/x.js, so that a browser needs no server to show them.
"use strict"
const factbook = (() => {
  const waiting = {}, known = {}
  const take = (name, data) => { known[name] = data; waiting[name]?.(data) }
  const load = name => known[name] !== undefined ? Promise.resolve(known[name])
    : new Promise((resolve, reject) => {
      waiting[name] = resolve
      const script = document.createElement("script")
      script.src = `data/${name}.js`
      script.onerror = () => reject(new Error(`data/${name}.js cannot be read`))
      document.head.append(script)
    })

  // -- elements ---------------------------------------------------------------------------------

  const unbroken = child => typeof child !== "string" ? child  // as dashboards/views/parts/text.py
    : child.replace(/(\d) (?=%|× 10|([KMGTP]iB|B|d|h|min|s)\b)/g, "$1\u00a0").replace(/(\d\u00a0×) (?=10)/g, "$1\u00a0")
  const el = (name, attributes = {}, ...children) => {
    const element = document.createElement(name)
    for (const [key, value] of Object.entries(attributes)) {
      if (key.startsWith("on")) element[key] = value
      else if (value === true) element.setAttribute(key, "")
      else if (value !== false && value != null) element.setAttribute(key, value)
    }
    element.append(...children.flat().filter(child => child != null && child !== "").map(unbroken))
    return element
  }
  const link = (to, text) => el("a", { href: `#/${to}` }, text)
  const path = (...parts) => parts.map(part => encodeURIComponent(part)).join("/")
  const raised = text => [...text].map(one => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(one)]).join("")
  const digits = value => {  // as registry/wording.py writes numbers
    if (value == null) return "–"
    const size = Math.abs(value)
    if (size && (size < 1e-4 || size >= 1e15)) {
      const [mantissa, power] = value.toExponential(2).split("e")
      return `${Number(mantissa)} × 10${raised(String(Number(power)))}`
    }
    return value.toLocaleString("en", Number.isInteger(value) ? {} : { maximumSignificantDigits: 3 })
  }
  const percent = value => value == null ? "–" : `${Number((100 * value).toFixed(1))} %`
  const many = (count, one) => `${count.toLocaleString("en")} ${one}${count === 1 ? "" : "s"}`

  const numbers = list => el("div", { class: "numbers" },
    list.map(one => el("div", { title: one.is }, one.name, el("b", {}, one.value))))
  const json = name => el("p", { class: "note" }, "This page as data: ",
    el("a", { href: `data/${name}.json` }, `data/${name}.json`))

  const figure = one => {
    const [first, ...more] = one.caption.split("\n")
    const about = [one.caption.replaceAll("\n", " · "), one.details].filter(Boolean).join("; ") || "picture"
    const caption = el("figcaption", {}, el("strong", {}, first), more.map(line => el("span", {}, line)))
    const fine = one.small ? " fb-small" : ""
    if (!one.face) {
      const map = one.layers[0]
      return el("figure", { title: one.details }, el("img", {
        class: "fb-below", src: map.src, alt: `${map.name}: ${about}`, loading: "lazy" }), caption)
    }
    const base = el("img", { class: `fb-face fb-base${fine}`, src: one.face, alt: about, loading: "lazy" })
    const button = el("button", { type: "button", class: "fb-look", "aria-label": `Enlarge ${about}` }, base)
    for (const layer of one.layers) {
      const image = kind => el("img", { class: kind, src: layer.src, loading: "lazy",
        alt: `${layer.name.toLowerCase()}: ${about}` })
      const kind = `fb-layer${layer.veil ? " fb-veil" : ""}`
      if (layer.below) {
        button.append(layer.veil ? el("span", { class: "fb-stack" },
          el("img", { class: `fb-under${fine}`, src: one.face, alt: "", loading: "lazy" }), image("fb-below"))
          : image("fb-below"))
        button.append(el("span", { class: kind, hidden: true, "data-layer": layer.name, "data-shown": "1" }))
      } else {
        const hidden = image(kind)
        hidden.hidden = true
        hidden.dataset.layer = layer.name
        button.append(hidden)
      }
    }
    const whole = el("figure", { title: one.details }, button, caption)
    whole.dataset.caption = one.caption.replaceAll("\n", " · ")
    whole.dataset.details = one.details
    return whole
  }
  const pictures = block => [
    block.title ? el("h2", {}, block.title) : null,
    el("div", { class: "fb-pictures" }, block.pictures.map(figure)),
    block.note ? el("p", { class: "note" }, block.note) : null,
  ]
  const blocks = list => list.flatMap(block => {
    if (block.pictures) return pictures(block)
    const part = el("div")
    part.innerHTML = block.html  // written by factbook, every stored text escaped
    return [part]
  })

  const thumbnail = (source, text) => source
    ? el("img", { src: source, alt: text, loading: "lazy" }) : el("span", { class: "none" }, "no picture")
  const card = (to, source, title, ...lines) => el("li", { class: "card" }, el("a", { href: `#/${to}` },
    thumbnail(source, ""), el("strong", { title }, title), lines.filter(Boolean).map(one => el("span", {}, one))))
  const cards = list => el("ul", { class: "cards links" }, list)

  // -- where one is -------------------------------------------------------------------------------

  const main = document.getElementById("main"), trail = document.getElementById("trail")
  const say = text => { document.getElementById("said").textContent = text }
  let site, title, shown = 0

  const show = (heading, crumbs, ...content) => {
    document.title = heading === title ? title : `${heading} · ${title}`
    trail.replaceChildren(...crumbs.flatMap(([to, text]) => ["› ", link(to, text), " "]))
    const h1 = el("h1", { tabindex: "-1" }, heading)
    main.replaceChildren(h1, ...content.flat(3).filter(one => one != null))
    if (shown++) { scrollTo(0, 0); h1.focus({ preventScroll: true }) }
  }
  const page = run => site.pages.find(one => one.run === run)
  const named = one => site.pages.filter(other => other.cell === one.cell).length > 1
    ? `${one.cell} (${one.run.slice(0, 4)}-${one.run.slice(4, 6)}-${one.run.slice(6, 8)} ${one.run.slice(9, 11)}:${one.run.slice(11, 13)})`
    : one.cell
  const home = one => one.kind === "set" ? path("set", one.run)
    : one.kind === "decisions" ? path("decisions", one.run) : path("result", one.run)
  const about = one => el("p", { class: "note" }, `Run ${one.run} of ${one.stage}. `,
    one.newer ? el("span", {}, "A newer run: ", link(home(page(one.newer)), page(one.newer).run), ". ") : null,
    one.pictures ? `Images: ${one.dataset}, ${one.licence || "no licence"}, ${one.terms}.` : null)
  const debounced = (call, wait = 30) => {
    let timer
    return (...given) => { clearTimeout(timer); timer = setTimeout(() => call(...given), wait) }
  }
  const remember = (to, state) => {
    const query = new URLSearchParams(Object.entries(state).filter(([, value]) => value))
    history.replaceState(null, "", `#/${to}${String(query) ? `?${query}` : ""}`)
  }

  // -- sets of concepts ---------------------------------------------------------------------------

  const value = (index, name, row) => {
    const column = index[name]
    return column === undefined ? "" : column.codes ? column.values[column.codes[row]] : column[row]
  }
  const words = index => index.words ??= index.concept.map((_, row) =>
    [value(index, "name", row), value(index, "own_name", row), value(index, "called", row), value(index, "token", row)].join(" ").toLowerCase())
  const search = (index, text) => {
    const asked = text.toLowerCase().split(/\s+/).filter(Boolean), all = words(index)
    const rows = [...index.concept.keys()]
    if (!asked.length) return rows
    const one = /^\d+$/.test(text.trim()) ? Number(text) : -1
    return rows.filter(row => index.concept[row] === one || asked.every(word => all[row].includes(word)))
  }
  const ORDERS = {
    contribution: ["mean_contribution", -1], images: ["image_share", -1], activation: ["largest_activation", -1],
    score: ["score", -1], "C2-score": ["c2", -1], name: ["name", 1], number: ["concept", 1],
  }
  const ordered = (index, rows, by) => {
    const [column, way] = ORDERS[by] ?? ["", 1]
    if (!index[column]) return rows
    const missing = one => one == null || one === ""
    const of = index[column]
    return [...rows].sort((a, b) => missing(of[a]) - missing(of[b])
      || (of[a] < of[b] ? -way : of[a] > of[b] ? way : a - b))
  }
  const label = (index, row) => value(index, "name", row) || value(index, "own_name", row) || value(index, "token", row) || "no name"
  const quoted = name => name ? `“${name}”` : ""
  const told = (index, row) => [value(index, "verdict", row), value(index, "chance", row)].filter(Boolean).join(", ")
  const evidence = counts => counts[0] + counts[1] + counts[2] ? `${counts[0]} for it, ${counts[1]} against it, ${counts[2]} open` : ""
  const conceptCard = (one, index, row) => card(path("concept", one.run, index.concept[row]), index.thumb[row],
    label(index, row), quoted(value(index, "called", row)), told(index, row), evidence(index.evidence[row]), `${one.noun.toLowerCase()} ${index.concept[row]}`)

  const AT_ONCE = 36
  const list = (node, items, draw) => {
    let drawn = 0
    const more = el("button", { type: "button", class: "plain", onclick: () => add() })
    const add = () => {
      const before = drawn
      drawn = Math.min(items.length, drawn + AT_ONCE)
      const fresh = items.slice(before, drawn).map(draw)
      node.append(...fresh)
      more.textContent = `Show more of ${items.length.toLocaleString("en")}`
      more.hidden = drawn >= items.length
      if (before) fresh[0]?.querySelector("a").focus()
    }
    node.replaceChildren()
    add()
    return more
  }

  const setPage = async (run, query) => {
    const one = page(run)
    const [set, index] = await Promise.all([load(`${run}/set`), load(`${run}/index`)])
    const box = el("input", { type: "search", value: query.get("q"), autocomplete: "off" })
    const sort = el("select", {}, set.orders.map(name => el("option", { selected: name === query.get("sort") }, name)))
    const doubts = index.chance?.values ?? []
    const only = el("select", {}, [["", "all"], ...doubts.map(own => [`is ${own}`, own || "without a name"])].map(([key, text]) =>
      el("option", { value: key, selected: key === (query.get("only") ?? "") }, text)))
    const grid = cards([]), count = el("p", { class: "note" }), foot = el("div", { class: "pages" })
    const draw = () => {
      const begun = performance.now()
      let rows = search(index, box.value)
      if (only.value) rows = rows.filter(row => `is ${value(index, "chance", row)}` === only.value)
      rows = ordered(index, rows, sort.value)
      foot.replaceChildren(list(grid, rows, row => conceptCard(one, index, row)))
      count.textContent = rows.length === index.concept.length ? `${many(rows.length, one.noun.toLowerCase())}.`
        : `${rows.length.toLocaleString("en")} of ${many(index.concept.length, one.noun.toLowerCase())}.`
      say(count.textContent)
      remember(path("set", run), { q: box.value, sort: sort.value === set.orders[0] ? "" : sort.value, only: only.value })
      factbook.took = performance.now() - begun
    }
    words(index)
    box.oninput = debounced(draw)
    sort.onchange = only.onchange = draw
    const tools = el("form", { class: "tools", role: "search", onsubmit: event => event.preventDefault() },
      el("label", { class: "wide" }, "Name or number", box), el("label", {}, "Order by", sort),
      doubts.length > 1 ? el("label", {}, "Names", only) : null)
    const related = site.pages.filter(other => other.set === run)
    show(named(one), [], about(one), numbers(set.numbers),
      set.notes.map(note => el("p", { class: "note" }, note)),
      el("ul", { class: "links" }, set.has_model ? el("li", {}, link(path("model", run), "The whole model")) : null,
        related.map(other => el("li", {}, link(home(other), named(other))))),
      tools, count, grid, foot, json(`${run}/index`))
    draw()
  }

  const modelPage = async run => {
    const one = page(run), model = await load(`${run}/model`)
    show("The whole model", [[home(one), named(one)]], about(one), blocks(model.blocks), json(`${run}/model`))
  }

  // -- where a concept is present -----------------------------------------------------------------

  const SVG = "http://www.w3.org/2000/svg"
  const svg = (name, attributes, ...children) => {
    const element = document.createElementNS(SVG, name)
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value)
    element.append(...children)
    return element
  }
  const histogram = (seen, what) => {
    const [wide, high, most] = [400, 110, Math.log1p(Math.max(...seen.counts))]
    const step = wide / seen.counts.length, width = (seen.to - seen.from) / seen.counts.length
    const bars = seen.counts.map((count, at) => {
      const size = count ? Math.max(2, high * Math.log1p(count) / most) : 0
      const from = seen.from + at * width
      return svg("rect", { x: at * step, y: high - size, width: step - 1, height: size },
        svg("title", {}, `${what} ${digits(from)} to ${digits(from + width)}: ${many(count, "image")}`))
    })
    const said = `${what} from ${digits(seen.from)} to ${digits(seen.to)}, in ${many(seen.present, "image")}; the tallest bar has ${Math.max(...seen.counts).toLocaleString("en")}`
    return el("figure", { class: "histogram" },
      svg("svg", { viewBox: `0 0 ${wide} ${high}`, preserveAspectRatio: "none", role: "img", "aria-label": said }, ...bars),
      el("div", { class: "ends" }, el("span", {}, digits(seen.from)), el("span", {}, what), el("span", {}, digits(seen.to))))
  }
  const barTable = (title, rows, classes, told) => {
    if (!rows?.length) return null
    const most = Math.max(...rows.map(([, size]) => Math.abs(size)))
    return el("div", {}, el("h3", {}, title), el("table", { class: "bars" }, el("tbody", {}, rows.map(([at, size]) => el("tr", {},
      el("th", { scope: "row" }, classes[at]),
      el("td", {}, svg("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true", class: size < 0 ? "below" : "" },
        svg("rect", { width: 100 * Math.abs(size) / most, height: 10 }))),
      el("td", {}, told(size)))))))
  }
  const quarter = ([high, low, count, shown], name, all, what) => {
    if (!count) return null
    const title = `${name[0].toUpperCase()}${name.slice(1)}: ${what} ${digits(high)} to ${digits(low)}, ${many(count, "image")}`
    const found = shown.map(([at, presence]) => [...all.images[at], presence])
    const drawn = found.filter(([, , face]) => face).map(([image, of, face, presence]) => figure(
      { caption: `${all.classes[of] ?? image}\n${what} ${digits(presence)}`, details: image, face, layers: [], small: false }))
    const ids = found.filter(([, , face]) => !face).map(([image, of, , presence]) =>
      el("li", {}, `${image} (${all.classes[of] ?? "no class"}), ${digits(presence)}`))
    return [el("h3", {}, title), drawn.length ? el("div", { class: "fb-pictures" }, drawn) : null, ids.length ? el("ul", { class: "links" }, ids) : null,
      found.length ? null : el("p", { class: "note" }, "None of the images that are published.")]
  }
  const presence = (seen, all, noun) => {
    if (!seen || !all) return null
    const what = noun === "Neuron" ? "activation" : "presence"
    const share = percent(seen.present / seen.of)
    const by = all.classes_by ? ` Classes: as ${all.classes_by}.` : ""
    return [el("h2", {}, noun === "Neuron" ? "How strongly it is active" : "How strongly it is present, and where"),
      el("p", {}, `In ${seen.present.toLocaleString("en")} of ${many(seen.of, "image")} (${share}).`),
      el("div", { class: "charts" }, histogram(seen, what),
        barTable("Classes it is present in", seen.classes, all.classes, percent),
        barTable("Classes it contributes to", seen.given, all.classes, size => `${size > 0 ? "+" : ""}${digits(size)}`)),
      el("p", { class: "note" }, `Bars of the histogram are on a logarithmic scale.${by} Contributions: mean to the logit over images explained for the class.`.replace(noun === "Neuron" ? / Contributions.*/ : /$^/, "")),
      el("h2", {}, "Across its range"),
      seen.quarters.flatMap((own, at) => quarter(own, all.quarters[at], all, what) ?? []),
      el("p", { class: "note" }, "Images of each quarter of those in which it is, drawn at random.")]
  }

  const conceptPage = async (run, text) => {
    const one = page(run), [set, index] = await Promise.all([load(`${run}/set`), load(`${run}/index`)])
    const concept = Number(text), row = index.concept.indexOf(concept)
    if (row < 0) return missing(`No ${one.noun.toLowerCase()} ${text} in ${one.cell}.`)
    const number = [...index.concept].sort((a, b) => a - b).indexOf(concept)
    const part = `${run}/concepts-${String(Math.floor(number / set.per_part)).padStart(4, "0")}`
    const data = await load(part)
    const own = data.concepts.find(each => each.concept === concept)
    const all = own.seen ? await load(`${run}/images`) : null
    const step = (by, text) => index.concept[row + by] === undefined ? null
      : el("a", { href: `#/${path("concept", run, index.concept[row + by])}`, rel: by > 0 ? "next" : "prev" }, text)
    const badges = { "✓ for": "for", "✗ against": "against" }
    const speaking = own.evidence.length ? [
      el("h2", {}, `Can this ${label(index, row) === "no name" ? one.noun.toLowerCase() : "name"} be trusted?`),
      el("p", {}, `${many(own.evidence.length, "answer")}: ${evidence(index.evidence[row])}.`),
      el("ul", { class: "evidence" }, own.evidence.map(([question, finding, speaks]) => el("li", { title: data.rules[question] },
        el("span", { class: `badge ${badges[speaks] ?? "open"}` }, speaks), el("b", {}, question), ` ${finding}.`))),
    ] : []
    const table = own.labels ? el("details", {}, el("summary", {}, `Best label by each of ${many(set.metrics.length, "metric")}`),
      el("div", { class: "scroll", role: "group", tabindex: "0", "aria-label": "Best label by every metric" },
        el("table", {}, el("thead", {}, el("tr", {}, ["metric", "sanity checks", "label", "score", "from", "to", "against chance"].map(head =>
          el("th", { scope: "col" }, head)))),
        el("tbody", {}, set.metrics.map((metric, at) => el("tr", {},
          [metric, set.metric_verdicts[at], own.labels[at], digits(own.scores[at]), digits(own.low[at]), digits(own.high[at]), own.by_chance?.[at] ?? ""]
            .map(cell => el("td", {}, cell)))))))) : null
    const rowOf = other => index.concept.indexOf(other)
    const similar = own.similar.length ? [el("h2", {}, "Similar directions in the layer"), cards(own.similar.map(([other, cosine]) =>
      card(path("concept", run, other), index.thumb[rowOf(other)], label(index, rowOf(other)), `cosine ${digits(cosine)}`, `concept ${other}`)))] : []
    const decided = page(set.made_of_it.decisions)
    const decisions = own.decisions.length && decided ? [el("h2", {}, "Decisions that use it"), el("ul", { class: "links" },
      own.decisions.map(([image, explained, share]) => el("li", {}, link(path("decision", decided.run, image), `${image}: ${percent(share)} of ${explained}`))))] : []
    const references = own.references?.length ? el("details", {}, el("summary", {}, `${many(own.references.length, "image")} by their ids`),
      el("ul", {}, own.references.map(([image, classes, presence]) => el("li", {}, `${image} (${classes || "no class"}), ${digits(presence)}`)))) : null
    const texts = own.texts?.map(([before, token, following, after, caption]) => el("p", { class: "passage" },
      before, el("mark", {}, token), el("u", {}, following), after, el("br"), el("small", { class: "note" }, caption)))
    show(own.title, [[home(one), named(one)]], own.called ? el("p", {}, "Called ", el("strong", {}, quoted(own.called)), " by readers.") : null,
      el("p", { class: "note" }, own.line), el("nav", { class: "pages", "aria-label": "Neighbours" },
      step(-1, "← Previous"), step(1, "Next →")),
      own.pictures?.length ? pictures({ pictures: own.pictures, note: own.note }) : own.note ? el("p", { class: "note" }, own.note) : null, texts,
      speaking, table, presence(own.seen, all, one.noun), similar, decisions, references, about(one), json(part))
  }

  // -- decisions and results ------------------------------------------------------------------------

  const decisionCard = (one, each) => card(path("decision", one.run, each.image), each.thumb, each.question,
    each.label && each.label !== each.prediction ? `wrong: it is ${each.label}` : "", each.image)
  const decisionsPage = async (run, query) => {
    const one = page(run), index = await load(`${run}/index`)
    const box = el("input", { type: "search", value: query.get("q"), autocomplete: "off" })
    const wrong = el("input", { type: "checkbox", checked: query.get("only") === "wrong" })
    const grid = cards([]), count = el("p", { class: "note" }), foot = el("div", { class: "pages" })
    const draw = () => {
      const asked = box.value.toLowerCase().split(/\s+/).filter(Boolean)
      const found = index.decisions.filter(each => (!wrong.checked || (each.label && each.label !== each.prediction))
        && asked.every(word => `${each.image} ${each.target} ${each.prediction} ${each.label}`.toLowerCase().includes(word)))
      foot.replaceChildren(list(grid, found, each => decisionCard(one, each)))
      count.textContent = `${found.length.toLocaleString("en")} of ${many(index.decisions.length, "decision")}.`
      say(count.textContent)
      remember(path("decisions", run), { q: box.value, only: wrong.checked ? "wrong" : "" })
    }
    box.oninput = debounced(draw)
    wrong.onchange = draw
    show(named(one), [], about(one), el("form", { class: "tools", role: "search", onsubmit: event => event.preventDefault() },
      el("label", { class: "wide" }, "Image or class", box), el("label", {}, "Wrong ones alone", wrong)),
      count, grid, foot, json(`${run}/index`))
    draw()
  }
  const decisionPage = async (run, image) => {
    const one = page(run), index = await load(`${run}/index`)
    const place = index.decisions.findIndex(each => each.image === image)
    if (place < 0) return missing(`No decision on ${image} in ${one.cell}.`)
    const file = `${run}/decision-${String(place).padStart(5, "0")}`
    const own = await load(file)
    const step = (by, text) => index.decisions[place + by] === undefined ? null : link(path("decision", run, index.decisions[place + by].image), text)
    const concepts = page(own.set) ? el("ul", { class: "links" }, own.terms.map(([concept, name, contribution, , called]) => el("li", {},
      link(path("concept", own.set, concept), [`concept ${concept}${name ? `: ${name}` : ""}`, quoted(called)].filter(Boolean).join(" ")), ` ${contribution > 0 ? "+" : ""}${digits(contribution)}`))) : null
    show(own.question, [[home(one), named(one)]], el("p", { class: "note" }, own.image),
      el("nav", { class: "pages", "aria-label": "Neighbours" }, step(-1, "← Previous"), step(1, "Next →")),
      blocks(own.blocks.slice(0, 1)), concepts, blocks(own.blocks.slice(1)), about(one), json(file))
  }
  const resultPage = async run => {
    const one = page(run), own = await load(`${run}/result`)
    show(named(one), [], own.meaning ? el("p", {}, own.meaning) : null,
      page(own.set) ? el("p", {}, "About ", link(home(page(own.set)), named(page(own.set))), ".") : null,
      blocks(own.blocks), about(one), json(`${run}/result`))
  }

  // -- the first page -------------------------------------------------------------------------------

  const firstPage = () => {
    const sets = site.pages.filter(one => one.kind === "set" && !one.newer)
    const others = kind => site.pages.filter(one => one.kind === kind && !one.newer)
    const box = el("input", { type: "search", autocomplete: "off" }), found = el("div")
    const find = async () => {
      const text = box.value.trim()
      if (!text) return found.replaceChildren()
      const indices = await Promise.all(sets.map(one => load(`${one.run}/index`)))
      const begun = performance.now()
      let total = 0
      const groups = sets.flatMap((one, at) => {
        const rows = search(indices[at], text)
        total += rows.length
        return rows.length ? [el("h2", {}, `${many(rows.length, one.noun.toLowerCase())} of ${named(one)}`),
          cards(rows.slice(0, 12).map(row => conceptCard(one, indices[at], row))),
          rows.length > 12 ? el("p", {}, link(`${home(one)}?q=${encodeURIComponent(text)}`, `All ${rows.length.toLocaleString("en")}`)) : null] : []
      })
      found.replaceChildren(...groups.filter(Boolean), ...(total ? [] : [el("p", {}, `Nothing is called ${text}.`)]))
      say(`${total} found`)
      factbook.took = performance.now() - begun
    }
    box.onfocus = () => sets.forEach(async one => words(await load(`${one.run}/index`)))
    box.oninput = debounced(find)
    show(title, [], sets.length ? el("form", { class: "tools", role: "search", onsubmit: event => event.preventDefault() },
      el("label", { class: "wide" }, "Find a concept by its name or number", box)) : null, found,
      sets.map(one => el("section", {}, el("h2", {}, link(home(one), named(one))), numbers(one.numbers),
        cards(one.wall.map(each => card(path("concept", one.run, each.concept), each.thumb, each.name || "no name", quoted(each.called), each.told,
          `${one.noun.toLowerCase()} ${each.concept}`))),
        el("p", {}, link(home(one), `All ${many(one.count, one.noun.toLowerCase())}`)))),
      others("decisions").map(one => el("section", {}, el("h2", {}, link(home(one), named(one))),
        cards(one.wall.map(each => decisionCard(one, each))), el("p", {}, link(home(one), `All ${many(one.count, "decision")}`)))),
      others("result").length ? el("section", {}, el("h2", {}, "Results"), el("ul", { class: "links" },
        others("result").map(one => el("li", {}, link(home(one), named(one)))))) : null)
  }
  const aboutPage = () => show("What is published", [], el("p", {}, "Each page names the run that it is made from; its address stays."),
    el("div", { class: "scroll", role: "group", tabindex: "0", "aria-label": "What is published" }, el("table", {},
      el("thead", {}, el("tr", {}, ["experiment", "run", "what", "images of", "licence", "shown"].map(head => el("th", { scope: "col" }, head)))),
      el("tbody", {}, site.pages.map(one => el("tr", {}, el("td", {}, link(home(one), one.cell)), [one.run, one.schema, one.dataset || "–",
        one.licence || "–", one.pictures ? `images; ${one.terms}` : `maps alone: ${one.terms}`].map(cell => el("td", {}, cell))))))), json("site"))
  const missing = text => show("Not here", [], el("p", {}, text), el("p", {}, link("", "To the first page")))

  // -- addresses ------------------------------------------------------------------------------------

  const ROUTES = { set: setPage, model: modelPage, concept: conceptPage, decisions: decisionsPage, decision: decisionPage, result: resultPage }
  const route = async () => {
    if (location.hash === "#main") return main.focus()
    const [where, query] = location.hash.replace(/^#\/?/, "").split("?")
    const [kind, ...parts] = where.split("/").map(decodeURIComponent)
    const asked = new URLSearchParams(query ?? "")
    try {
      site ??= await load("site")
      title = site.title
      if (!kind) return firstPage()
      if (kind === "about") return aboutPage()
      if (!ROUTES[kind] || !page(parts[0])) return missing(`Nothing is published at ${location.hash}.`)
      await ROUTES[kind](...(kind === "set" || kind === "decisions" ? [parts[0], asked] : parts))
    } catch (error) {
      missing(error.message)
    }
  }
  addEventListener("hashchange", route)
  document.addEventListener("keydown", event => {
    const step = { ArrowLeft: 0, ArrowRight: 1 }[event.key]
    if (step === undefined || event.target.closest("input, select, dialog, .scroll")) return
    const to = document.querySelectorAll("nav.pages a")
    const chosen = [...to].find(one => one.textContent.includes(step ? "Next" : "Previous"))
    if (chosen) chosen.click()
  })
  addEventListener("DOMContentLoaded", route)
  return { take, took: 0 }
})()
