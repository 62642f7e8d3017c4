/* where_test.c: what each form of a constraint means, and what is refused. */
#include "core/model/where.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
// cmocka.h wants the headers above.
#include <cmocka.h>

static const struct resources has = { .v = { [RES_CPU] = 16000, [RES_MEM] = 64ull << 30, [RES_GPU] = 0 } };

static bool met(const char *where, const char *labels)
{
    struct err err = { 0 };
    struct where_node node = { bytes_str("worker-1"), bytes_str(labels), &has };
    assert_int_equal(labels_check(bytes_str(labels), &err), 0);
    if (where_check(bytes_str(where), &err) < 0)
        fail_msg("%s: %s", where, err.text);
    return where_meets(bytes_str(where), &node);
}

static void each_form(void **state)
{
    (void)state;
    static const char labels[] = "zone=a,ssd,rack=12,image=base:2.0+x@y,zoned=c";
    static const struct { const char *where; bool met; } cases[] = {
        { "", true }, { "zone=a", true }, { "zone==a", true }, { "zone=b", false }, { "zone=b|a", true }, { "zone = b | c", false },
        { "zone!=b", true }, { "zone!=a", false }, { "zone!=b|a", false }, { "other!=b", true }, { "other=b", false },
        { "ssd", true }, { "!ssd", false }, { "! other", true }, { "other", false }, { "zone", true }, { "!zone", false }, { "ssd=x", false },
        { "rack>11", true }, { "rack>12", false }, { "rack>=12", true }, { "rack<12.5", true }, { "rack<12", false }, { "rack<=12", true },
        { "zone>1", false }, { "other<1", false }, { "ssd<1", false }, { "image=base:2.0+x@y", true },
        { "node=worker-1", true }, { "node=worker-2|worker-1", true }, { "node!=worker-1", false },
        { "cpus>=16", true }, { "cpus>16", false }, { "cpus=16", true }, { "cpus=16.0|4", true }, { "cpus!=16", false }, { "mem>=64G", true },
        { "mem>64G", false }, { "mem=65536M", true }, { "gpus>=1", false }, { "gpus=0", true }, { "gpus<1", true },
        { "zone=a & ssd & rack>3", true }, { "zone=a,ssd", true }, { "zone=a&!ssd", false }, { "zone=b & ssd", false },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (met(cases[i].where, labels) != cases[i].met)
            fail_msg("\"%s\" should be %s", cases[i].where, cases[i].met ? "met" : "not met");
    assert_false(met("zone=a", ""));
    assert_true(met("!zone", ""));
    assert_true(met("b=2", "a=1, b=2"));
}

static void refused(const char *where, const char *labels)
{
    struct err err = { 0 };
    int rc = where ? where_check(bytes_str(where), &err) : labels_check(bytes_str(labels), &err);
    if (rc >= 0)
        fail_msg("\"%s\" was taken", where ? where : labels);
    assert_int_equal(err.code, ERR_INVALID);
    assert_true(err.text[0] && err.remedy[0]);
}

static void what_cannot_be_read(void **state)
{
    (void)state;
    static const char *const wheres[] = {
        "&", "zone=a&", "&zone", "zone=", "zone=a|", "zone=|a", "=a", "zone=a b", "zone a", "!zone=a", "zone=>3", "zone>a", "rack>1|2", "zone=\xc3\xa4",
        "node", "!node", "node>1", "cpus", "cpus>x", "cpus=x", "mem>=64Q", "zone=a;b", "(zone=a)", "zone=a||b", "zone!a", " ",
    };
    static const char *const labels[] = { ",", "a,", "=b", "a=", "a b", "a=b=c", "node=x", "cpus=3", "mem", "gpus=1", "a=\xc3\xa4", "a=b|c", " " };
    for (size_t i = 0; i < sizeof wheres / sizeof *wheres; i++)
        refused(wheres[i], NULL);
    for (size_t i = 0; i < sizeof labels / sizeof *labels; i++)
        refused(NULL, labels[i]);
    char text[LABELS_MAX + 2];
    memset(text, 'a', sizeof text);
    text[WHERE_MAX + 1] = 0;
    refused(text, NULL);
    text[WHERE_MAX] = 0;
    assert_int_equal(where_check(bytes_str(text), NULL), 0);
    memset(text, 'a', sizeof text);
    text[LABELS_MAX + 1] = 0;
    refused(NULL, text);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(each_form), cmocka_unit_test(what_cannot_be_read) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
