#include "base/list.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

struct item {
    int value;
    struct list_node node;
};

static int sum(struct list_node *list)
{
    int total = 0;
    list_each(n, list) total = total * 10 + list_entry(n, struct item, node)->value;
    return total;
}

static void order_and_removal(void **state)
{
    (void)state;
    struct list_node list;
    struct item items[4];
    list_init(&list);
    assert_true(list_empty(&list));
    assert_null(list_first(&list));
    for (int i = 0; i < 4; i++) {
        items[i].value = i + 1;
        list_init(&items[i].node);
        assert_false(list_linked(&items[i].node));
        list_append(&list, &items[i].node);
        assert_true(list_linked(&items[i].node));
    }
    assert_int_equal(sum(&list), 1234);
    list_remove(&items[1].node);
    assert_int_equal(sum(&list), 134);
    list_remove(&items[1].node); /* of a node in no list: nothing happens */
    assert_int_equal(sum(&list), 134);
    list_remove(&items[0].node);
    list_remove(&items[3].node);
    assert_ptr_equal(list_first(&list), &items[2].node);
    list_append(&list, &items[0].node);
    assert_int_equal(sum(&list), 31);
}

static void removing_while_walking(void **state)
{
    (void)state;
    struct list_node list;
    struct item items[6];
    list_init(&list);
    for (int i = 0; i < 6; i++) {
        items[i].value = i;
        list_append(&list, &items[i].node);
    }
    list_each_safe(n, &list) if (list_entry(n, struct item, node)->value % 2 == 0) list_remove(n);
    assert_int_equal(sum(&list), 135);
    list_each_safe(n, &list) list_remove(n);
    assert_true(list_empty(&list));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(order_and_removal),
        cmocka_unit_test(removing_while_walking),
    };
    return cmocka_run_group_tests_name("list", tests, NULL, NULL);
}
