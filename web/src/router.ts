// Addresses of the page: what stands behind the #, so that each view can be linked to, and Back goes back.
import { computed, signal } from '@preact/signals'

const hash = signal(location.hash)
addEventListener('hashchange', () => (hash.value = location.hash))

export const route = computed(() => {
  const [path, search = ''] = hash.value.replace(/^#\/?/, '').split('?', 2)
  const parts = path.split('/').map((part) => {
    try {
      return decodeURIComponent(part)
    } catch {
      return part
    }
  })
  return { page: parts[0] || 'overview', rest: parts.slice(1), query: new URLSearchParams(search) }
})

export const href = (page: string, ...rest: (string | number)[]) => '#/' + [page, ...rest].map((part) => encodeURIComponent(part)).join('/')

export const go = (address: string) => void (location.hash = address)

// Changes the query of the present page without leaving a trace in the history.
export function setQuery(changes: Record<string, string | null>) {
  const { page, rest, query } = route.value
  const next = new URLSearchParams(query)
  for (const [name, value] of Object.entries(changes)) value ? next.set(name, value) : next.delete(name)
  const text = next.toString()
  history.replaceState(null, '', href(page, ...rest) + (text ? '?' + text : ''))
  hash.value = location.hash
}
