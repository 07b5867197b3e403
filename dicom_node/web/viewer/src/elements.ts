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

export function setOptions(list: HTMLSelectElement, options: Iterable<[value: string, text: string]>): void {
  list.replaceChildren(...[...options].map(([value, text]) => make('option', { value }, text)));
}
