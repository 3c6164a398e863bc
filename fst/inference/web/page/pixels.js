// Pixels in, pixels out: what happens to a picture before and after the network. Pictures are RGBA bytes.

/** Where reflection finds each of `count` positions that begin `border` before a side of `length` pixels. */
const reflected = (count, border, length) =>
  Int32Array.from({ length: count }, (_, i) => length - 1 - Math.abs(length - 1 - Math.abs(i - border)));

/** How a network has a picture: with margins, and in cells of `cell` × `cell` pixels. */
export function layout(width, height, { cell, multiple, border }) {
  const [columns, rows] = [width, height].map(side => Math.ceil((side + 2 * border) / multiple) * multiple / cell);
  return { cell, border, width, height, columns, rows, plane: rows * columns, colour: cell * cell * rows * columns };
}

/** Bytes to floats in [-1, 1], `(3 cell², rows, columns)`: margins by reflection, then pixel-unshuffle. */
export function toCells(pixels, { cell, border, width, height, columns, rows, plane, colour }) {
  const across = reflected(columns * cell, border, width), down = reflected(rows * cell, border, height);
  const floats = new Float32Array(3 * colour);
  for (let y = 0; y < rows * cell; y++)
    for (let s = 0; s < cell; s++) {
      let to = ((y % cell) * cell + s) * plane + Math.floor(y / cell) * columns;
      for (let x = s; x < columns * cell; x += cell, to++) {
        const from = 4 * (down[y] * width + across[x]);
        floats[to] = pixels[from] / 127.5 - 1;
        floats[to + colour] = pixels[from + 1] / 127.5 - 1;
        floats[to + 2 * colour] = pixels[from + 2] / 127.5 - 1;
      }
    }
  return floats;
}

/** The inverse of `toCells`, without the margins; rounds and clamps. */
export function fromCells(floats, { cell, border, width, height, columns, plane, colour }) {
  const pixels = new Uint8ClampedArray(4 * width * height).fill(255); // opaque
  const place = (at, step, next) => (at % cell) * step + Math.floor(at / cell) * next;
  const across = Int32Array.from({ length: width }, (_, x) => place(x + border, plane, 1));
  for (let y = 0, to = 0; y < height; y++) {
    const row = place(y + border, cell * plane, columns);
    for (let x = 0; x < width; x++, to += 4) {
      const from = row + across[x];
      pixels[to] = floats[from] * 127.5 + 127.5;
      pixels[to + 1] = floats[from + colour] * 127.5 + 127.5;
      pixels[to + 2] = floats[from + 2 * colour] * 127.5 + 127.5;
    }
  }
  return pixels;
}

/** Mix two painted pictures, and apply colours and strength. `second` may be null, `content` is the photo. */
export function finish(content, first, second, { mix, strength, colours }) {
  if (!second && strength === 1 && !colours) return first;
  const pixels = new Uint8ClampedArray(content.length).fill(255), other = second ?? first;
  const mixed = i => first[i] + mix * (other[i] - first[i]);
  for (let i = 0; i < pixels.length; i += 4) {
    const more = j => mixed(i + j) - content[i + j];
    const luma = colours ? 0.299 * more(0) + 0.587 * more(1) + 0.114 * more(2) : 0; // ITU-R BT.601
    for (let j = i; j < i + 3; j++) {
      const painted = colours ? Math.min(255, Math.max(0, content[j] + luma)) : mixed(j);
      pixels[j] = content[j] + strength * (painted - content[j]);
    }
  }
  return pixels;
}

/** How far RGBA bytes are from RGB bytes: the peak signal-to-noise ratio in dB and the largest difference in levels. */
export function difference(rgba, rgb) {
  let sum = 0, most = 0;
  for (let i = 0; i < rgb.length; i++) {
    const apart = Math.abs(rgba[i + Math.floor(i / 3)] - rgb[i]);
    sum += apart * apart;
    most = Math.max(most, apart);
  }
  return { decibels: 10 * Math.log10(255 * 255 * rgb.length / sum), most };
}
