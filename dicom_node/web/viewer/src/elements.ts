/** Creation of HTML elements; text is never parsed as HTML. */

type Attributes = Record<string, string | number | boolean>;

export function make<Name extends keyof HTMLElementTagNameMap>(
  name: Name,
  attributes: Attributes = {},
  ...content: (Node | string)[]
): HTMLElementTagNameMap[Name] {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === true) element.setAttribute(key, '');
    else if (value !== false) element.setAttribute(key, String(value));
  }
  element.append(...content);
  return element;
}

/** A drop-down list under a label. */
export function choice(label: string, change: (value: string) => void): { field: HTMLLabelElement; list: HTMLSelectElement } {
  const list = make('select');
  list.addEventListener('change', () => change(list.value));
  return { field: make('label', {}, make('span', {}, label), list), list };
}

/** Words that are shown where the viewer is wide enough for them. */
export function spacious(words: string): Node[] {
  return [make('span', { class: 'viewer-spacious' }, words)];
}

export function setOptions(list: HTMLSelectElement, options: Iterable<[value: string, text: string]>): void {
  list.replaceChildren(...[...options].map(([value, text]) => make('option', { value }, text)));
}

/** Words where the viewer is wide enough for them, else a sign; the element needs an accessible name of its own. */
export function terse(words: string, sign: Node | string): Node[] {
  return [...spacious(words), make('span', { class: 'viewer-compact' }, sign)];
}

/** An element of a drawing. */
export function shape<Name extends keyof SVGElementTagNameMap>(
  name: Name,
  attributes: Attributes = {},
  ...content: (Node | string)[]
): SVGElementTagNameMap[Name] {
  const element = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
  element.append(...content);
  return element;
}
