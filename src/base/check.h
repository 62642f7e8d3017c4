/* check.h: assertions that stay on in release builds.
 *
 * check(x) states what must be true if the program has no bug; when it is false the process prints where and aborts.
 * Crash-only design makes that safe: start-up is recovery. Never use it for input, I/O or anything a user can cause. */
#ifndef ROTA_BASE_CHECK_H
#define ROTA_BASE_CHECK_H

#define check(x) (__builtin_expect(!!(x), 1) ? (void)0 : check_failed(#x, __FILE__, __LINE__, __func__))
#define check_unreachable() check_failed("unreachable", __FILE__, __LINE__, __func__)

/* Called (if set) after the message and before abort(): prints the state of the program. */
extern void (*check_dump)(void);

_Noreturn void check_failed(const char *expr, const char *file, int line, const char *func);

#endif
