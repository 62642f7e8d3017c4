#include "base/check.h"

#include <stdio.h>
#include <stdlib.h>

void (*check_dump)(void);

_Noreturn void check_failed(const char *expr, const char *file, int line, const char *func)
{
    fprintf(stderr, "rota: check failed: %s, in %s at %s:%d\n", expr, func, file, line);
    void (*dump)(void) = check_dump;
    check_dump = NULL; /* A check that fails inside the dump must not recurse. */
    if (dump)
        dump();
    abort();
}
