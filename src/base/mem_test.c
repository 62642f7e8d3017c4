#include "base/mem.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "base/check.h"

static void zeroed_copied_grown(void **state)
{
    (void)state;
    autofree uint64_t *zero = mem_zero(100, sizeof *zero);
    for (int i = 0; i < 100; i++)
        assert_int_equal(zero[i], 0);
    autofree char *text = mem_str("abc");
    assert_string_equal(text, "abc");
    assert_null(mem_str(NULL));
    autofree char *none = mem_copy(NULL, 0);
    assert_non_null(none);
    size_t cap = 0;
    int *array = NULL;
    for (size_t i = 0; i < 1000; i++) {
        array = mem_grow(array, &cap, i + 1, sizeof *array);
        assert_true(cap > i);
        array[i] = (int)i;
    }
    int *same = mem_grow(array, &cap, 10, sizeof *array);
    assert_ptr_equal(same, array);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(array[i], i);
    array = mem_resize(array, 0, 0);
    assert_non_null(array);
    free(array);
}

static void autoclose_closes(void **state)
{
    (void)state;
    int kept;
    {
        autoclose int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        kept = fd;
        assert_true(fcntl(kept, F_GETFD) >= 0);
        autoclose int none = -1;
        (void)none;
    }
    assert_int_equal(fcntl(kept, F_GETFD), -1);
}

/* Runs f in a child; true if it did not come back. */
static bool dies(void (*f)(void))
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
        dup2(null, 2);
        setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
        f();
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return !(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* Sizes from outside the compiler's sight, or it would warn of them. */
static volatile size_t huge = SIZE_MAX / 4;

static void zero_too_much(void)
{
    free(mem_zero(huge, 8));
}
static void resize_too_much(void)
{
    free(mem_resize(NULL, huge, 8));
}
static void alloc_too_much(void)
{
    free(mem_alloc(huge));
}
static void failed_check(void)
{
    check(huge == 0);
}
static void fine(void)
{
    check(huge != 0);
    free(mem_alloc(10));
}

static void bugs_and_overflow_end_the_process(void **state)
{
    (void)state;
    assert_true(dies(zero_too_much));
    assert_true(dies(resize_too_much));
    assert_true(dies(alloc_too_much));
    assert_true(dies(failed_check));
    assert_false(dies(fine));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(zeroed_copied_grown),
        cmocka_unit_test(autoclose_closes),
        cmocka_unit_test(bugs_and_overflow_end_the_process),
    };
    return cmocka_run_group_tests_name("mem", tests, NULL, NULL);
}
