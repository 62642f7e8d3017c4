#include "core/model/resources.h"

double resources_share(const struct resources *part, const struct resources *whole)
{
    double most = 0;
    for (int d = 0; d < RES_DIMS; d++) {
        if (!whole->v[d])
            continue;
        double share = (double)part->v[d] / (double)whole->v[d];
        if (share > most)
            most = share;
    }
    return most;
}
