/* signature.h: what makes two failures the same to a person: the last line that was written, without what differs from
 * run to run (numbers, addresses, identifiers). Pure. */
#ifndef ROTA_MASTER_SIGNATURE_H
#define ROTA_MASTER_SIGNATURE_H

#include "base/buf.h"

#define SIGNATURE_BYTES_MAX 200u

/* The last line with something to read in it, at most SIGNATURE_BYTES_MAX bytes of it, as it stands; size 0: there is
 * none. Borrowed. */
struct bytes last_line(struct bytes text);
/* The line with runs of digits as "#", hexadecimal words of 6 digits and more as "#", blanks and control bytes as one
 * blank, colours left out. Added to `out`. */
void signature_of(struct bytes line, struct buf *out);

#endif
