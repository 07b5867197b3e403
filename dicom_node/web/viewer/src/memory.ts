/** What the browser remembers of a reader's choices; nothing where it must not store. */

const PREFIX = 'viewer:';

export function remembered(name: string): string | null {
  try {
    return localStorage.getItem(PREFIX + name);
  } catch {
    return null;
  }
}

export function remember(name: string, value: string): void {
  try {
    localStorage.setItem(PREFIX + name, value);
  } catch {
    // A browser that stores nothing begins anew each time.
  }
}
