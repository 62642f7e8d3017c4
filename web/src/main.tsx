import { render } from 'preact'
import { effect } from '@preact/signals'
import { App } from './app'
import { checkSession, signIn, who } from './api'
import { follow } from './live'
import { askStats } from './state'
import 'uplot/dist/uPlot.min.css'
import './style.css'

// Whoever comes with a ticket in the address (rota dashboard) is signed in by it; it works once, and is taken out at once.
async function begin() {
  const ticket = /^#\/?ticket=([\w-]+)$/.exec(location.hash)
  if (ticket) {
    history.replaceState(null, '', '#/overview')
    dispatchEvent(new HashChangeEvent('hashchange'))
    try {
      await signIn({ ticket: ticket[1] })
      return
    } catch {
      // used already: perhaps there is a session all the same
    }
  }
  for (let pause = 500; ; pause = Math.min(5000, 2 * pause)) {
    try {
      await checkSession()
      return
    } catch {
      await new Promise((resume) => setTimeout(resume, pause))
    }
  }
}

effect(() => {
  if (!who.value) return
  askStats()
  follow()
})

render(<App />, document.getElementById('app')!)
begin()
