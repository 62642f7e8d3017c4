#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "api/page.h"

/* The test brings its own files instead of those of the build. */
static const unsigned char plain[] = "hello", packed[] = "(packed)";
const struct page_file page_files[] = {
    { "/", "text/html", "\"e1\"", false, plain, plain + 5, packed, packed + 8 },
    { "/assets/a.js", "text/javascript", "\"e2\"", true, plain, plain + 5, packed, packed + 8 },
    { 0 },
};

static void finds_files_by_their_whole_path(void **state)
{
    (void)state;
    assert_ptr_equal(page_find(bytes_str("/")), &page_files[0]);
    assert_ptr_equal(page_find(bytes_str("/assets/a.js")), &page_files[1]);
    assert_null(page_find(bytes_str("/assets/a.j")));
    assert_null(page_find(bytes_str("/assets/a.jsx")));
    assert_null(page_find(bytes_str("")));
}

static void reads_what_the_client_takes(void **state)
{
    (void)state;
    assert_true(page_takes_gzip("gzip"));
    assert_true(page_takes_gzip("deflate, GZIP ;q=0.5, br"));
    assert_true(page_takes_gzip("br,gzip;q=1"));
    assert_false(page_takes_gzip("gzip;q=0"));
    assert_false(page_takes_gzip("gzip; q=0.000"));
    assert_false(page_takes_gzip("xgzip, gzipx"));
    assert_false(page_takes_gzip(""));
    assert_false(page_takes_gzip(NULL));
}

static void reads_what_the_client_has(void **state)
{
    (void)state;
    assert_true(page_matches("\"e1\"", "\"e1\""));
    assert_true(page_matches("\"e0\", W/\"e1\"", "\"e1\""));
    assert_true(page_matches("*", "\"e1\""));
    assert_false(page_matches("\"e11\"", "\"e1\""));
    assert_false(page_matches("", "\"e1\""));
    assert_false(page_matches(NULL, "\"e1\""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_files_by_their_whole_path),
        cmocka_unit_test(reads_what_the_client_takes),
        cmocka_unit_test(reads_what_the_client_has),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
