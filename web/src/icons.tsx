// Icons of our own: lines on a grid of 16.
const PATHS: Record<string, string> = {
  logo: 'M8 2.2A5.8 5.8 0 0 1 13.8 8M12.1 12.1A5.8 5.8 0 0 1 3.9 12.1M2.2 8A5.8 5.8 0 0 1 3.9 3.9M8 6.8v2.4M6.8 8h2.4',
  overview: 'M2 2h5v5H2zM9 2h5v3H9zM9 7h5v7H9zM2 9h5v5H2z',
  jobs: 'M2 3.5h12M2 8h12M2 12.5h8',
  nodes: 'M2 2.5h12v4H2zM2 9.5h12v4H2zM4.5 4.5h.01M4.5 11.5h.01',
  queues: 'M2 3h8M2 6.3h12M2 9.6h6M2 13h10',
  cron: 'M8 2a6 6 0 1 1 0 12 6 6 0 0 1 0-12M8 4.8V8l2.4 1.6',
  gantt: 'M2 3h5M5 6.3h6M4 9.6h8M9 13h5',
  failures: 'M8 2 14.5 13.5h-13zM8 6.5v3M8 11.5v.01',
  events: 'M1.5 8h3l2-5 3 10 2-5h3',
  search: 'M7 2.5a4.5 4.5 0 1 1 0 9 4.5 4.5 0 0 1 0-9M10.5 10.5 14 14',
  plus: 'M8 3v10M3 8h10',
  sun: 'M8 5a3 3 0 1 1 0 6 3 3 0 0 1 0-6M8 1v1.5M8 13.5V15M1 8h1.5M13.5 8H15M3 3l1 1M12 12l1 1M13 3l-1 1M4 12l-1 1',
  moon: 'M13 9.5A5.8 5.8 0 1 1 6.5 3 4.6 4.6 0 0 0 13 9.5z',
  help: 'M5.8 6a2.2 2.2 0 1 1 3.2 2c-.7.4-1 .8-1 1.5M8 12v.01',
  out: 'M6 2.5H3v11h3M7 8h7M11 5l3 3-3 3',
}

export const Icon = ({ name }: { name: string }) => (
  <svg class="ico" viewBox="0 0 16 16" aria-hidden="true"><path d={PATHS[name] ?? ''} /></svg>
)
