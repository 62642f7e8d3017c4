/* test.h: what the unit tests of this folder begin with. */
#ifndef ROTA_CLI_TEST_H
#define ROTA_CLI_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#endif
