#include "base/mac.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include "base/prng.h"

/* From the vectors that come with the reference implementation: key 00 01 .. 0f, message 00 01 .. of 0 and 8 bytes. */
static void equals_the_reference(void **state)
{
    (void)state;
    static const uint8_t key[MAC_KEY_BYTES] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 };
    static const uint8_t none[16] = { 0xa3, 0x81, 0x7f, 0x04, 0xba, 0x25, 0xa8, 0xe6,
                                      0x6d, 0xf6, 0x72, 0x14, 0xc7, 0x55, 0x02, 0x93 };
    static const uint8_t eight[16] = { 0x3b, 0x62, 0xa9, 0xba, 0x62, 0x58, 0xf5, 0x61,
                                       0x0f, 0x83, 0xe2, 0x64, 0xf3, 0x14, 0x97, 0xb4 };
    static const uint8_t message[8] = { 0, 1, 2, 3, 4, 5, 6, 7 };
    uint64_t number;
    memcpy(&number, message, sizeof number);
    struct mac *m = mac_new(key);
    struct mac128 out = mac_numbers(m, &number, 1);
    assert_memory_equal(&out, eight, 16);
    out = mac_numbers(m, &number, 0);
    assert_memory_equal(&out, none, 16);
    out = mac_numbers(m, &number, 1); /* the context starts afresh each time */
    assert_memory_equal(&out, eight, 16);
    mac_free(m);
    mac_free(NULL);
}

static void depends_on_key_and_numbers(void **state)
{
    (void)state;
    uint8_t key[MAC_KEY_BYTES] = { 1 }, other[MAC_KEY_BYTES] = { 2 };
    uint64_t a[3] = { 7, 1, 2 }, b[3] = { 7, 2, 1 };
    struct mac *m = mac_new(key), *n = mac_new(other);
    assert_true(mac_equal(mac_numbers(m, a, 3), mac_numbers(m, a, 3)));
    assert_false(mac_equal(mac_numbers(m, a, 3), mac_numbers(m, b, 3)));
    assert_false(mac_equal(mac_numbers(m, a, 3), mac_numbers(m, a, 2)));
    assert_false(mac_equal(mac_numbers(m, a, 3), mac_numbers(n, a, 3)));
    struct mac128 x = { 1, 2 }, y = { 1, 3 };
    assert_false(mac_equal(x, y));
    mac_free(m);
    mac_free(n);
}

/* What OpenSSL makes of the same bytes. */
static struct mac128 by_openssl(const uint8_t key[MAC_KEY_BYTES], const uint64_t *numbers, size_t count)
{
    struct mac128 out;
    size_t size = sizeof out;
    EVP_MAC *algorithm = EVP_MAC_fetch(NULL, "SIPHASH", NULL);
    EVP_MAC_CTX *context = EVP_MAC_CTX_new(algorithm);
    OSSL_PARAM params[] = { OSSL_PARAM_construct_size_t(OSSL_MAC_PARAM_SIZE, &size), OSSL_PARAM_construct_end() };
    assert_true(EVP_MAC_init(context, key, MAC_KEY_BYTES, params));
    assert_true(EVP_MAC_update(context, (const unsigned char *)numbers, count * sizeof *numbers));
    assert_true(EVP_MAC_final(context, (unsigned char *)&out, &size, sizeof out));
    EVP_MAC_CTX_free(context);
    EVP_MAC_free(algorithm);
    return out;
}

static void equals_openssl(void **state)
{
    (void)state;
    struct prng p;
    prng_seed(&p, 1);
    for (size_t count = 0; count < 40; count++) {
        uint64_t numbers[40], words[2] = { prng_u64(&p), prng_u64(&p) };
        uint8_t key[MAC_KEY_BYTES];
        memcpy(key, words, sizeof key);
        for (size_t i = 0; i < count; i++)
            numbers[i] = prng_u64(&p);
        struct mac *m = mac_new(key);
        assert_true(mac_equal(mac_numbers(m, numbers, count), by_openssl(key, numbers, count)));
        mac_free(m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_the_reference),
        cmocka_unit_test(equals_openssl),
        cmocka_unit_test(depends_on_key_and_numbers),
    };
    return cmocka_run_group_tests_name("mac", tests, NULL, NULL);
}
