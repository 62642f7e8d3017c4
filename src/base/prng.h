/* prng.h: seeded random numbers; the same seed gives the same sequence on every machine.
 * xoshiro256** seeded by splitmix64 (Blackman and Vigna, "Scrambled linear pseudorandom number generators", 2018).
 * Not for secrets: those come from getrandom(2) and mac.h. */
#ifndef ROTA_BASE_PRNG_H
#define ROTA_BASE_PRNG_H

#include <stdbool.h>
#include <stdint.h>

struct prng {
    uint64_t s[4];
};

void prng_seed(struct prng *p, uint64_t seed);
uint64_t prng_u64(struct prng *p);
uint64_t prng_below(struct prng *p, uint64_t bound);              /* 0 .. bound-1, unbiased; bound > 0 */
int64_t prng_between(struct prng *p, int64_t low, int64_t high);  /* low .. high, both possible; low <= high */
bool prng_chance(struct prng *p, double probability);
double prng_unit(struct prng *p);                                 /* [0, 1) */

#endif
