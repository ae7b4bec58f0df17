/* Prompts to ids: tokenizer/<index> for each prompt of tokenizer_golden.json, with its added words. */
#include <inttypes.h>

#include "cluster/base/str.h"
#include "data/tokenizer.h"
#include "tests/golden/golden.h"

/* The added words in the order of their ids, which the tokenizer gives. */
static int add_words(tokenizer *t, const json_t *root, err *e)
{
    json_t *added = json_object_get(root, "added"), *value;
    const char *word;

    for (size_t k = 0; k < json_object_size(added); k++) {
        const int32_t next = tokenizer_vocab(t) + (int32_t)k;
        int32_t id = -1;

        json_object_foreach(added, word, value)
            if (json_integer_value(value) == next && id < 0)
                TRY(tokenizer_add(t, word, &id, e));
        if (id != next)
            return err_set(e, ERR_INPUT, "no added word has id %" PRId32, next);
    }
    return 0;
}

static void encode_prompts(golden *g, const tokenizer *t, const json_t *prompts)
{
    json_t *prompt;
    size_t i;

    json_array_foreach(prompts, i, prompt) {
        const json_t *text = json_object_get(prompt, "text");
        int32_t id[TOKENS];
        str name = {0};

        str_add(&name, "tokenizer/%zu", i);
        if (json_is_string(text) && golden_wants(g, name.at)) {
            tokenizer_encode_bytes(t, json_string_value(text), json_string_length(text), id);
            golden_put_i32(g, name.at, id, TOKENS);
        }
        str_free(&name);
    }
}

int check_tokenizer(golden *g, err *e)
{
    const json_t *root = golden_json(g, GOLDEN_TOKENIZER);
    tokenizer *t;
    int rc;

    if (!root || !golden_wants_any(g, "tokenizer/"))
        return 0;
    TRY(tokenizer_open(&t, golden_tokenizer_dir(g), e));
    rc = add_words(t, root, e);
    if (rc == 0)
        encode_prompts(g, t, json_object_get(root, "prompts"));
    tokenizer_close(t);
    return rc;
}
