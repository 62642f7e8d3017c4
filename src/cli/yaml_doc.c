#include "cli/yaml_doc.h"

#include <stdlib.h>
#include <string.h>

#include <yaml.h>

#include "base/check.h"
#include "base/mem.h"

struct yaml_doc {
    yaml_document_t document;
    const char *file;
};

struct yaml_doc *yaml_doc_read(const char *file, struct bytes text, struct buf *faults)
{
    yaml_parser_t parser;
    check(yaml_parser_initialize(&parser));
    yaml_parser_set_input_string(&parser, (const unsigned char *)(text.data ? text.data : ""), text.size);
    struct yaml_doc *d = mem_zero(1, sizeof *d);
    d->file = file;
    bool ok = yaml_parser_load(&parser, &d->document);
    if (ok && yaml_document_get_root_node(&d->document)) { /* something must not follow it */
        yaml_document_t next;
        ok = yaml_parser_load(&parser, &next);
        if (ok && yaml_document_get_root_node(&next)) {
            buf_printf(faults, "%s:%zu:1: a second document; write one\n", file, next.start_mark.line + 1);
            yaml_document_delete(&d->document);
            free(d);
            d = NULL;
        }
        if (ok)
            yaml_document_delete(&next);
        else
            yaml_document_delete(&d->document);
    }
    if (!ok) {
        buf_printf(faults, "%s:%zu:%zu: %s%s%s\n", file, parser.problem_mark.line + 1, parser.problem_mark.column + 1,
                   parser.problem ? parser.problem : "not YAML", parser.context ? " " : "",
                   parser.context ? parser.context : "");
        free(d);
        d = NULL;
    }
    yaml_parser_delete(&parser);
    return d;
}

void yaml_doc_free(struct yaml_doc *d)
{
    if (!d)
        return;
    yaml_document_delete(&d->document);
    free(d);
}

static yaml_node_t *node_at(struct yaml_doc *d, size_t node)
{
    yaml_node_t *n = yaml_document_get_node(&d->document, (int)node);
    check(n);
    return n;
}

size_t yaml_doc_root(struct yaml_doc *d)
{
    return yaml_document_get_root_node(&d->document) ? 1 : 0;
}

enum yaml_doc_kind yaml_doc_kind(struct yaml_doc *d, size_t node)
{
    yaml_node_type_t type = node_at(d, node)->type;
    return type == YAML_MAPPING_NODE ? YAML_DOC_MAP : type == YAML_SEQUENCE_NODE ? YAML_DOC_LIST : YAML_DOC_TEXT;
}

const char *yaml_doc_text(struct yaml_doc *d, size_t node)
{
    yaml_node_t *n = node_at(d, node);
    /* A zero byte inside would cut the text short: not text. */
    if (n->type != YAML_SCALAR_NODE || memchr(n->data.scalar.value, '\0', n->data.scalar.length))
        return NULL;
    return (const char *)n->data.scalar.value;
}

size_t yaml_doc_count(struct yaml_doc *d, size_t node)
{
    if (node == 0)
        return 0;
    yaml_node_t *n = node_at(d, node);
    if (n->type == YAML_MAPPING_NODE)
        return (size_t)(n->data.mapping.pairs.top - n->data.mapping.pairs.start);
    return n->type == YAML_SEQUENCE_NODE ? (size_t)(n->data.sequence.items.top - n->data.sequence.items.start) : 0;
}

size_t yaml_doc_key(struct yaml_doc *d, size_t node, size_t index)
{
    yaml_node_t *n = node_at(d, node);
    check(n->type == YAML_MAPPING_NODE && index < yaml_doc_count(d, node));
    return (size_t)n->data.mapping.pairs.start[index].key;
}

size_t yaml_doc_item(struct yaml_doc *d, size_t node, size_t index)
{
    yaml_node_t *n = node_at(d, node);
    check(index < yaml_doc_count(d, node));
    return (size_t)(n->type == YAML_MAPPING_NODE ? n->data.mapping.pairs.start[index].value
                                                 : n->data.sequence.items.start[index]);
}

void yaml_doc_fault(struct yaml_doc *d, size_t node, struct buf *faults, const char *fmt, ...)
{
    yaml_node_t *n = node_at(d, node);
    buf_printf(faults, "%s:%zu:%zu: ", d->file, n->start_mark.line + 1, n->start_mark.column + 1);
    va_list args;
    va_start(args, fmt);
    buf_vprintf(faults, fmt, args);
    va_end(args);
    buf_char(faults, '\n');
}
