/* Settings files: whatever is in them ends in settings or in faults with their places. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/check.h"
#include "cli/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct settings s;
    autobuf struct buf faults = BUF_INIT;
    settings_init(&s);
    int rc = settings_from_yaml(&s, "f", bytes_of(data, size), &faults);
    check((rc == 0) == (faults.size == 0));
    check(faults.size == 0 || (strncmp(faults.data, "f:", 2) == 0 && faults.data[faults.size - 1] == '\n'));
    if (rc == 0) {
        settings_check(&s, CONFIG_master, &faults);
        settings_check(&s, CONFIG_worker, &faults);
        settings_complete(&s);
        check(s.master.state_dir && s.worker.bus_url);
        check(s.worker.named_count <= RES_NAMED_MAX);
    }
    settings_fini(&s);
    return 0;
}
