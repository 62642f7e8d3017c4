#include "calendar/zone.h"

#include <string.h>

#include <glib.h>

/* A zone is GLib's; UTC is the same without a file. */

/* It becomes a part of a path. */
static bool name_ok(struct bytes name)
{
    if (!name.size || name.size > ZONE_BYTES_MAX || name.data[0] == '/' || name.data[0] == '-' || name.data[0] == '+')
        return false;
    for (size_t i = 0; i < name.size; i++)
        if (!g_ascii_isalnum(name.data[i]) && !strchr("_+-/", name.data[i]))
            return false;
    return true;
}

int zone_open(struct bytes name, struct zone **out, struct err *err)
{
    char text[ZONE_BYTES_MAX + 1] = "";
    GTimeZone *zone = NULL;
    if (name_ok(name)) {
        memcpy(text, name.data, name.size);
        zone = strcmp(text, ZONE_UTC) == 0 ? g_time_zone_new_utc() : g_time_zone_new_identifier(text);
    }
    if (!zone)
        return err_field(err, ERR_INVALID, "zone", "write a name as in /usr/share/zoneinfo, Europe/Berlin or UTC (Debian's package tzdata)",
                         "the master knows no time zone \"%.*s\"", (int)(name.size < ZONE_BYTES_MAX ? name.size : ZONE_BYTES_MAX), name.data);
    *out = (struct zone *)zone;
    return 0;
}

void zone_close(struct zone *zone)
{
    if (zone)
        g_time_zone_unref((GTimeZone *)zone);
}

int64_t zone_offset(const void *zone, int64_t utc_s)
{
    GTimeZone *of = (GTimeZone *)(uintptr_t)zone;
    int interval = g_time_zone_find_interval(of, G_TIME_TYPE_UNIVERSAL, utc_s);
    return interval < 0 ? 0 : g_time_zone_get_offset(of, interval);
}
