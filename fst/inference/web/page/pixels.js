// Pixels in, pixels out: what happens to a picture before and after the network. Pictures are RGBA bytes.

/** Where reflection finds each of `count` positions that begin `border` before a side of `length` pixels. */
function reflected(count, border, length) {
  return Int32Array.from({ length: count }, (_, i) => {
    const at = Math.abs(i - border);
    return at < length ? at : 2 * length - 2 - at;
  });
}

/** The network's layout of a picture: sides with margins, in cells of `cell` × `cell` pixels. */
export function layout(width, height, { cell, multiple, border }) {
  const padded = side => Math.ceil((side + 2 * border) / multiple) * multiple;
  return { cell, border, width, height, columns: padded(width) / cell, rows: padded(height) / cell };
}

/** Bytes to floats in [-1, 1], `(3 cell², rows, columns)`: margins by reflection, then pixel-unshuffle. */
export function toCells(pixels, { cell, border, width, height, columns, rows }) {
  const across = reflected(columns * cell, border, width), down = reflected(rows * cell, border, height);
  const plane = rows * columns, colour = cell * cell * plane;
  const floats = new Float32Array(3 * colour);
  for (let y = 0; y < rows; y++)
    for (let r = 0; r < cell; r++) {
      const row = down[y * cell + r] * width;
      for (let s = 0; s < cell; s++) {
        let to = (r * cell + s) * plane + y * columns;
        for (let x = s; x < columns * cell; x += cell, to++) {
          const from = 4 * (row + across[x]);
          floats[to] = pixels[from] / 127.5 - 1;
          floats[to + colour] = pixels[from + 1] / 127.5 - 1;
          floats[to + 2 * colour] = pixels[from + 2] / 127.5 - 1;
        }
      }
    }
  return floats;
}

/** The inverse of `toCells`, without the margins; rounds and clamps. */
export function fromCells(floats, { cell, border, width, height, columns, rows }) {
  const plane = rows * columns, colour = cell * cell * plane;
  const pixels = new Uint8ClampedArray(4 * width * height);
  const offsets = Int32Array.from({ length: width }, (_, x) => {
    const at = x + border;
    return (at % cell) * plane + Math.floor(at / cell);
  });
  for (let y = 0, to = 0; y < height; y++) {
    const at = y + border;
    const row = (at % cell) * cell * plane + Math.floor(at / cell) * columns;
    for (let x = 0; x < width; x++, to += 4) {
      const from = row + offsets[x];
      pixels[to] = floats[from] * 127.5 + 127.5;
      pixels[to + 1] = floats[from + colour] * 127.5 + 127.5;
      pixels[to + 2] = floats[from + 2 * colour] * 127.5 + 127.5;
      pixels[to + 3] = 255;
    }
  }
  return pixels;
}

/** Mix two painted pictures, and apply colours and strength. `second` may be null, `content` is the photo. */
export function finish(content, first, second, { mix, strength, colours }) {
  const pixels = new Uint8ClampedArray(content.length);
  const other = second ? mix : 0;
  for (let i = 0; i < pixels.length; i += 4) {
    let red = first[i], green = first[i + 1], blue = first[i + 2];
    if (other) {
      red += other * (second[i] - red);
      green += other * (second[i + 1] - green);
      blue += other * (second[i + 2] - blue);
    }
    const r = content[i], g = content[i + 1], b = content[i + 2];
    if (colours) { // the photo's colours with the painting's luma (ITU-R BT.601)
      const luma = 0.299 * (red - r) + 0.587 * (green - g) + 0.114 * (blue - b);
      red = Math.min(255, Math.max(0, r + luma));
      green = Math.min(255, Math.max(0, g + luma));
      blue = Math.min(255, Math.max(0, b + luma));
    }
    pixels[i] = r + strength * (red - r);
    pixels[i + 1] = g + strength * (green - g);
    pixels[i + 2] = b + strength * (blue - b);
    pixels[i + 3] = 255;
  }
  return pixels;
}

/** How far RGBA bytes are from RGB bytes: the peak signal-to-noise ratio in dB and the largest difference in levels. */
export function difference(rgba, rgb) {
  let sum = 0, most = 0;
  for (let i = 0, j = 0; j < rgb.length; i++) {
    if (i % 4 === 3) continue;
    const apart = Math.abs(rgba[i] - rgb[j++]);
    sum += apart * apart;
    most = Math.max(most, apart);
  }
  return { decibels: 10 * Math.log10(255 * 255 * rgb.length / sum), most };
}
