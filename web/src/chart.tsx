// Lines over time, by uPlot, in the colours of the page.
import { useEffect, useRef } from 'preact/hooks'
import uPlot from 'uplot'
import { clock } from './text'
import { colour, theme } from './theme'

type Line = { name: string; colour: string; values: (number | null)[] }
type ChartProps = { label: string; x: number[]; lines: Line[]; say: (n: number) => string; height?: number; kind?: 'lines' | 'bars' }

export function Chart({ label, x, lines, say, height = 130, kind = 'lines' }: ChartProps) {
  const box = useRef<HTMLDivElement>(null)
  const plot = useRef<uPlot | null>(null)
  const data = [x, ...lines.map((l) => l.values)] as uPlot.AlignedData
  useEffect(() => {
    const at = box.current!
    const axis = { stroke: colour('muted'), grid: { stroke: colour('line'), width: 1 }, ticks: { show: false }, font: '11px system-ui, sans-serif' }
    const steps = kind === 'bars' ? uPlot.paths.stepped!({ align: 1 }) : undefined
    const made = new uPlot(
      {
        width: at.clientWidth || 300,
        height,
        padding: [8, 12, 0, 0],
        cursor: { points: { size: 5 }, drag: { x: false, y: false } },
        legend: { live: true },
        scales: { y: { range: (_, __, max) => [0, max > 0 ? max * 1.1 : 1] } },
        axes: [
          { ...axis, values: (_, at) => at.map((t) => clock(t * 1000).slice(0, 5)), size: 24, space: 60 },
          { ...axis, values: (_, at) => at.map(say), size: 52, space: 30 },
        ],
        series: [
          { label: 'at', value: (_, t) => (t ? clock(t * 1000).slice(0, 5) : '–') },
          ...lines.map((l) => ({
            label: l.name, stroke: colour(l.colour), width: 1.5, paths: steps, points: { show: kind === 'lines', size: 3.5, fill: colour(l.colour) }, spanGaps: false,
            fill: kind === 'bars' ? colour(l.colour) + '22' : undefined, value: (_: uPlot, n: number | null) => (n === null || n === undefined ? '–' : say(n)),
          })),
        ],
      },
      data,
      at,
    )
    plot.current = made
    const watch = new ResizeObserver(() => made.setSize({ width: at.clientWidth || 300, height }))
    watch.observe(at)
    return () => {
      watch.disconnect()
      made.destroy()
    }
  }, [theme.value, lines.map((l) => l.name).join()])
  useEffect(() => plot.current?.setData(data))
  return (
    <figure class="chart">
      <figcaption>{label}</figcaption>
      <div ref={box} />
    </figure>
  )
}
