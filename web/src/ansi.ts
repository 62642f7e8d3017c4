// Output of programs, made harmless. Of all escape sequences only colours (SGR) mean anything; the others, and every other
// control byte, are dropped. What is left goes into the document as text.

export type Piece = { text: string; style: string }
type Style = { bold: boolean; dim: boolean; italic: boolean; under: boolean; strike: boolean; fore: number; back: number }

const normal = (): Style => ({ bold: false, dim: false, italic: false, under: false, strike: false, fore: -1, back: -1 })

// 256 colours and RGB are brought to the eight that the page has.
function nearest(r: number, g: number, b: number): number {
  const most = Math.max(r, g, b)
  if (most < 60) return 0
  return (r > most * 0.6 ? 1 : 0) | (g > most * 0.6 ? 2 : 0) | (b > most * 0.6 ? 4 : 0)
}

function indexed(n: number): number {
  if (n < 16) return n % 8
  if (n >= 232) return n < 238 ? 0 : 7
  const cube = n - 16
  return nearest(Math.floor(cube / 36) * 51, (Math.floor(cube / 6) % 6) * 51, (cube % 6) * 51)
}

function apply(style: Style, codes: number[]) {
  for (let i = 0; i < codes.length; i++) {
    const code = codes[i]
    if (code === 0) Object.assign(style, normal())
    else if (code === 1) style.bold = true
    else if (code === 2) style.dim = true
    else if (code === 3) style.italic = true
    else if (code === 4) style.under = true
    else if (code === 9) style.strike = true
    else if (code === 22) style.bold = style.dim = false
    else if (code === 23) style.italic = false
    else if (code === 24) style.under = false
    else if (code === 29) style.strike = false
    else if (code >= 30 && code <= 37) style.fore = code - 30
    else if (code >= 90 && code <= 97) style.fore = code - 90
    else if (code === 39) style.fore = -1
    else if (code >= 40 && code <= 47) style.back = code - 40
    else if (code >= 100 && code <= 107) style.back = code - 100
    else if (code === 49) style.back = -1
    else if (code === 38 || code === 48) {
      let colour = -1
      if (codes[i + 1] === 5) {
        colour = indexed(codes[i + 2] ?? 0)
        i += 2
      } else if (codes[i + 1] === 2) {
        colour = nearest(codes[i + 2] ?? 0, codes[i + 3] ?? 0, codes[i + 4] ?? 0)
        i += 4
      }
      if (code === 38) style.fore = colour
      else style.back = colour
    }
  }
}

const classes = (s: Style) =>
  [s.bold && 'a-1', s.dim && 'a-2', s.italic && 'a-3', s.under && 'a-4', s.strike && 'a-9', s.fore >= 0 && `f-${s.fore}`, s.back >= 0 && `g-${s.back}`].filter(Boolean).join(' ')

// CSI; a string (OSC, DCS, APC, PM, SOS) with or without its end; any other escape; C1 and control bytes.
const SEQUENCE = /(?:\x1b\[|\x9b)([0-?]*)[ -/]*([@-~]?)|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)?|\x1b[ -/]*[0-~]?|[\x00-\x08\x0b-\x1f\x7f-\x9f]/g
// Marks that turn the direction of the text, or are not seen.
const UNSEEN = /[\u00ad\u061c\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff]/g
const mark = (text: string) => text.replace(UNSEEN, (c) => `‹${c.charCodeAt(0).toString(16).toUpperCase().padStart(4, '0')}›`)

// One line; `style` goes on from the line before and is changed.
export class Colours {
  private style = normal()

  line(text: string): Piece[] {
    const pieces: Piece[] = []
    let from = 0
    const add = (part: string) => part && pieces.push({ text: mark(part), style: classes(this.style) })
    SEQUENCE.lastIndex = 0
    for (let m = SEQUENCE.exec(text); m; m = SEQUENCE.exec(text)) {
      add(text.slice(from, m.index))
      from = m.index + m[0].length
      if (m[2] === 'm') apply(this.style, (m[1] || '0').split(/[;:]/).slice(0, 32).map((n) => Number(n) || 0))
    }
    add(text.slice(from))
    return pieces
  }
}
