// Dark or light: as the system says, unless the switch was used.
import { signal } from '@preact/signals'

type Theme = 'dark' | 'light'
const system = matchMedia('(prefers-color-scheme: dark)')

function stored(): Theme | null {
  try {
    const value = localStorage.getItem('rota-theme')
    return value === 'dark' || value === 'light' ? value : null
  } catch {
    return null
  }
}

export const theme = signal<Theme>(stored() ?? (system.matches ? 'dark' : 'light'))

function apply() {
  document.documentElement.dataset.theme = theme.value
}

system.addEventListener('change', () => {
  if (stored()) return
  theme.value = system.matches ? 'dark' : 'light'
  apply()
})

export function switchTheme() {
  theme.value = theme.value === 'dark' ? 'light' : 'dark'
  try {
    localStorage.setItem('rota-theme', theme.value)
  } catch {
    // then it lasts as long as the page
  }
  apply()
}

apply()

// Colours for what is drawn on a canvas.
export const colour = (name: string) => (theme.value, getComputedStyle(document.documentElement).getPropertyValue('--' + name).trim())
