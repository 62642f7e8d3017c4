#include "bus/bus_conformance.h"

#include <stdio.h>

static char url[64];

static void begin(void *arg)
{
    static unsigned worlds;
    (void)arg;
    snprintf(url, sizeof url, "mem:world-%u", ++worlds);
}

static void end(void *arg)
{
    (void)arg;
}

static struct bus *open_end(void *arg, struct loop *loop, enum bus_role role, const char *name,
                            const struct bus_events *events, struct err *err)
{
    (void)arg;
    struct bus_address address = { .role = role, .url = url, .name = name };
    return bus_open(loop, &address, events, err);
}

static void test_urls(void **state)
{
    (void)state;
    struct bus_events events = { 0 };
    struct err err = { 0 };
    struct bus_address address = { .role = BUS_ROLE_WORKER, .url = "carrier-pigeon:coop" };
    assert_null(bus_open(NULL, &address, &events, &err));
    assert_int_equal(err.code, ERR_INVALID);
    assert_non_null(strstr(err.text, "carrier-pigeon"));
    assert_true(err.remedy[0] != 0);
    address.url = "amqp://me:secret@localhost";
    assert_null(bus_open(NULL, &address, &events, &err));
    assert_int_equal(err.code, ERR_INVALID);
    assert_null(strstr(err.text, "secret"));
    assert_non_null(strstr(err.remedy, "password_file"));
    address.url = NULL;
    assert_null(bus_open(NULL, &address, &events, &err));
    assert_int_equal(err.code, ERR_INVALID);
}

int main(void)
{
    struct bus_rig rig = { .begin = begin, .end = end, .open = open_end };
    struct CMUnitTest tests[BUS_CONFORMANCE_TESTS_MAX + 1];
    size_t count = bus_conformance(tests, &rig);
    tests[count++] = (struct CMUnitTest)cmocka_unit_test(test_urls);
    return _cmocka_run_group_tests("bus_mem", tests, count, NULL, NULL);
}
