#include "core/policy/fairshare.h"

#include <math.h>

double fair_had(double had, double held, int64_t ms, int64_t half_life_ms)
{
    if (ms <= 0)
        return had;
    double kept = exp2(-(double)ms / (double)half_life_ms);
    return had * kept + held * (1 - kept);
}
