#ifndef CFG_YAML_H
#define CFG_YAML_H
/* YAML (so JSON, too) into a tree of nodes, by libyaml. One document; anchors and aliases are followed. Refused, each
 * with its place: a key twice in one map, a key that is no text, tags, merge keys (<<), an alias inside its own
 * anchor, a zero byte, more than CFG_DEEPEST levels, CFG_FILE_MOST bytes, CFG_KEYS_MOST keys in one map,
 * CFG_ANCHORS_MOST anchors, or CFG_NODES_MOST values counted through aliases. So the time to read a file is bounded,
 * too. */
#include "configs/cfg_node.h"

enum {
    CFG_DEEPEST = 64,
    CFG_FILE_MOST = 16 << 20,
    CFG_NODES_MOST = 1 << 20,
    CFG_KEYS_MOST = 4096,
    CFG_ANCHORS_MOST = 1024
};

int cfg_yaml_read(const cfg_node **out, cfg_doc *d, const char *path, err *e);
/* name: what errors call it, "settings of rex" for instance. */
int cfg_yaml_parse(const cfg_node **out, cfg_doc *d, const char *text, size_t n, const char *name, err *e);
/* One value outside of a file, as a flag or a table's cell has it: [..] and {..} are YAML, anything else is a text. */
int cfg_value(const cfg_node **out, cfg_doc *d, const char *text, cfg_mark at, err *e);
#endif
