"use strict";
const make = (name, text, ...inside) => { const e = document.createElement(name); e.textContent = text; e.append(...inside); return e; };
fetch("/openapi.json").then(answer => answer.json()).then(api => {
  document.getElementById("about").textContent = api.info.description;
  for (const [path, methods] of Object.entries(api.paths)) for (const [method, about] of Object.entries(methods)) {
    const section = make("section", "", make("h2", `${method.toUpperCase()} ${path}`), make("p", about.summary));
    const list = make("ul", "");
    for (const p of about.parameters || []) {
      const schema = p.schema.enum ? p.schema.enum.join(" | ") : p.schema.type || (p.schema.anyOf || []).map(s => s.type).join(" | ");
      list.append(make("li", `${p.name} (${p.in}, ${schema}${"default" in p.schema ? `, default ${p.schema.default}` : ""}): ${p.description || ""}`));
    }
    if (about.requestBody) list.append(make("li", `body: ${Object.keys(about.requestBody.content).join(", ")}`));
    list.append(make("li", `answers: ${Object.keys(about.responses).join(", ")}`));
    section.append(list);
    document.getElementById("paths").append(section);
  }
});
