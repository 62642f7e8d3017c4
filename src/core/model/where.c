#include "core/model/where.h"

#include <string.h>

#include "base/parse.h"

enum op { OP_HAS, OP_HAS_NOT, OP_IS, OP_IS_NOT, OP_MORE, OP_AT_LEAST, OP_LESS, OP_AT_MOST };

struct term {
    struct bytes key, value;
    enum op op;
};

static const char builtin[][5] = { "node", "cpus", "mem", "gpus" };
enum { B_NODE, B_CPUS, B_MEM, B_GPUS, BUILTINS };

static int builtin_of(struct bytes key)
{
    int b = 0;
    while (b < BUILTINS && !bytes_equal(key, bytes_str(builtin[b])))
        b++;
    return b;
}

static bool key_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.' || c == '-' || c == '/';
}

static bool value_char(char c)
{
    return key_char(c) || c == ':' || c == '+' || c == '@';
}

static struct bytes trimmed(struct bytes text)
{
    while (text.size && text.data[0] == ' ')
        text = bytes_of(text.data + 1, text.size - 1);
    while (text.size && text.data[text.size - 1] == ' ')
        text.size--;
    return text;
}

/* Up to one of the marks; *rest is what is behind it, its data NULL when there was none. */
static struct bytes piece(struct bytes *rest, const char *marks)
{
    size_t size = 0;
    while (size < rest->size && !strchr(marks, rest->data[size]))
        size++;
    struct bytes first = bytes_of(rest->data, size);
    *rest = size < rest->size ? bytes_of(rest->data + size + 1, rest->size - size - 1) : bytes_of(NULL, 0);
    return trimmed(first);
}

static size_t run(struct bytes text, bool (*of)(char c))
{
    size_t size = 0;
    while (size < text.size && of(text.data[size]))
        size++;
    return size;
}

/* False: there is none, or it has a character that cannot be in it. */
static bool read_operator(struct bytes *text, enum op *op)
{
    static const struct { const char *word; enum op op; } words[] = { { "!=", OP_IS_NOT }, { ">=", OP_AT_LEAST }, { "<=", OP_AT_MOST },
                                                                     { "==", OP_IS }, { "=", OP_IS }, { ">", OP_MORE }, { "<", OP_LESS } };
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        size_t size = strlen(words[i].word);
        if (text->size < size || memcmp(text->data, words[i].word, size) != 0)
            continue;
        *op = words[i].op;
        *text = trimmed(bytes_of(text->data + size, text->size - size));
        return true;
    }
    return false;
}

static bool read_term(struct bytes text, struct term *t)
{
    bool negated = text.size && text.data[0] == '!';
    if (negated)
        text = trimmed(bytes_of(text.data + 1, text.size - 1));
    size_t size = run(text, key_char);
    *t = (struct term){ .key = bytes_of(text.data, size), .op = negated ? OP_HAS_NOT : OP_HAS };
    text = trimmed(bytes_of(text.data + size, text.size - size));
    if (!size || !text.size)
        return size > 0;
    if (negated || !read_operator(&text, &t->op))
        return false;
    t->value = text;
    return text.size > 0;
}

/* A number as the key has it: bytes of memory, thousandths of all else. */
static bool number_of(struct bytes text, bool size, uint64_t *out)
{
    char copy[40];
    if (!text.size || text.size >= sizeof copy)
        return false;
    memcpy(copy, text.data, text.size);
    copy[text.size] = 0;
    return (size ? parse_size(copy, out, NULL) : parse_milli(copy, out, NULL)) == 0;
}

static int wrong(struct err *err, struct bytes text, const char *what)
{
    int size = text.size < 60 ? (int)text.size : 60;
    return err_field(err, ERR_INVALID, NULL, "write zone=a, zone=a|b, zone!=a, ssd, !ssd, rack>=3, node=NAME or mem>=64G, with & between", "\"%.*s\" %s", size, text.data, what);
}

static int check_term(struct bytes text, struct err *err)
{
    struct term t;
    uint64_t number;
    if (!read_term(text, &t))
        return wrong(err, text, "is no condition");
    int b = builtin_of(t.key);
    bool counts = t.op >= OP_MORE, alternatives = t.op == OP_IS || t.op == OP_IS_NOT;
    if (b < BUILTINS && !counts && !alternatives)
        return wrong(err, text, "compares with nothing");
    if (b == B_NODE && counts)
        return wrong(err, text, "compares a name as a number");
    for (struct bytes rest = t.value; rest.data;) {
        struct bytes value = piece(&rest, alternatives ? "|" : "");
        if (!value.size || run(value, value_char) != value.size)
            return wrong(err, text, "has a value with a character that no value has, or none");
        if ((counts || (b > B_NODE && b < BUILTINS)) && !number_of(value, b == B_MEM, &number))
            return wrong(err, text, "compares with what is no number");
    }
    return 0;
}

int where_check(struct bytes where, struct err *err)
{
    if (where.size > WHERE_MAX)
        return err_field(err, ERR_INVALID, NULL, "give nodes a label for what is asked", "%zu bytes are more than %u", where.size, WHERE_MAX);
    for (struct bytes rest = where; rest.data && where.size;) {
        int rc = check_term(piece(&rest, "&,"), err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int labels_check(struct bytes labels, struct err *err)
{
    static const char how[] = "write zone=a,ssd: letters, digits and _.-/ in names, :+@ in values too";
    if (labels.size > LABELS_MAX)
        return err_field(err, ERR_INVALID, NULL, "give fewer", "%zu bytes are more than %u", labels.size, LABELS_MAX);
    for (struct bytes rest = labels; rest.data && labels.size;) {
        struct bytes label = piece(&rest, ",");
        size_t size = run(label, key_char);
        struct bytes key = bytes_of(label.data, size), value = bytes_of(label.data + size, label.size - size);
        int shown = label.size < 60 ? (int)label.size : 60;
        bool good = size && (!value.size || (value.data[0] == '=' && value.size > 1 &&
                                             run(bytes_of(value.data + 1, value.size - 1), value_char) == value.size - 1));
        if (!good)
            return err_field(err, ERR_INVALID, NULL, how, "\"%.*s\" is no label", shown, label.data ? label.data : "");
        if (builtin_of(key) < BUILTINS)
            return err_field(err, ERR_INVALID, NULL, "give it another name", "every node has \"%.*s\" by itself", (int)key.size, key.data);
    }
    return 0;
}

/* --- meeting it --- */

static bool label_of(struct bytes labels, struct bytes key, struct bytes *value)
{
    for (struct bytes rest = labels; rest.data && labels.size;) {
        struct bytes label = piece(&rest, ",");
        size_t size = run(label, key_char);
        if (!bytes_equal(bytes_of(label.data, size), key))
            continue;
        *value = size < label.size ? bytes_of(label.data + size + 1, label.size - size - 1) : bytes_of(NULL, 0);
        return true;
    }
    return false;
}

static bool compares(enum op op, uint64_t has, uint64_t with)
{
    switch (op) {
    case OP_MORE: return has > with;
    case OP_AT_LEAST: return has >= with;
    case OP_LESS: return has < with;
    case OP_AT_MOST: return has <= with;
    default: return has == with;
    }
}

static bool is_one(const struct term *t, bool known, struct bytes text, const uint64_t *number, bool size)
{
    uint64_t with;
    for (struct bytes rest = t->value; known && rest.data;) {
        struct bytes value = piece(&rest, "|");
        if (number ? number_of(value, size, &with) && with == *number : bytes_equal(value, text))
            return true;
    }
    return false;
}

static bool meets(const struct term *t, const struct where_node *node)
{
    static const int dims[BUILTINS] = { [B_CPUS] = RES_CPU, [B_MEM] = RES_MEM, [B_GPUS] = RES_GPU };
    int b = builtin_of(t->key);
    struct bytes text = b == B_NODE ? node->name : bytes_of(NULL, 0);
    bool counted = b > B_NODE && b < BUILTINS, known = b < BUILTINS || label_of(node->labels, t->key, &text);
    uint64_t has = counted ? node->has->v[dims[b]] : 0, with;
    if (t->op == OP_HAS || t->op == OP_HAS_NOT)
        return known == (t->op == OP_HAS);
    if (t->op == OP_IS || t->op == OP_IS_NOT)
        return is_one(t, known, text, counted ? &has : NULL, b == B_MEM) == (t->op == OP_IS);
    if (!known || !number_of(t->value, b == B_MEM, &with) || (!counted && !number_of(text, false, &has)))
        return false;
    return compares(t->op, has, with);
}

bool where_meets(struct bytes where, const struct where_node *node)
{
    struct term t;
    for (struct bytes rest = where; rest.data && where.size;)
        if (!read_term(piece(&rest, "&,"), &t) || !meets(&t, node))
            return false;
    return true;
}
