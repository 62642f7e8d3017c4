#include "base/mac.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"

struct mac {
    EVP_MAC *algorithm;
    EVP_MAC_CTX *context;
    uint8_t key[MAC_KEY_BYTES];
};

struct mac *mac_new(const uint8_t key[MAC_KEY_BYTES])
{
    struct mac *m = mem_zero(1, sizeof *m);
    memcpy(m->key, key, sizeof m->key);
    m->algorithm = EVP_MAC_fetch(NULL, "SIPHASH", NULL);
    check(m->algorithm);
    m->context = EVP_MAC_CTX_new(m->algorithm);
    check(m->context);
    size_t size = sizeof(struct mac128);
    OSSL_PARAM params[] = { OSSL_PARAM_construct_size_t(OSSL_MAC_PARAM_SIZE, &size), OSSL_PARAM_construct_end() };
    int set = EVP_MAC_CTX_set_params(m->context, params);
    check(set);
    return m;
}

void mac_free(struct mac *m)
{
    if (!m)
        return;
    EVP_MAC_CTX_free(m->context);
    EVP_MAC_free(m->algorithm);
    OPENSSL_cleanse(m->key, sizeof m->key);
    free(m);
}

struct mac128 mac_numbers(struct mac *m, const uint64_t *numbers, size_t count)
{
    struct mac128 out;
    size_t size = 0;
    check(EVP_MAC_init(m->context, m->key, sizeof m->key, NULL));
    check(EVP_MAC_update(m->context, (const unsigned char *)numbers, count * sizeof *numbers));
    check(EVP_MAC_final(m->context, (unsigned char *)&out, &size, sizeof out));
    check(size == sizeof out);
    return out;
}

bool mac_equal(struct mac128 a, struct mac128 b)
{
    return CRYPTO_memcmp(&a, &b, sizeof a) == 0;
}
