/* The settings: rows, what follows from them, and what contradicts itself in them. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "data/caption.h"
#include "data/subject.h"

#define SUBJECT_ROWS                                                                                                   \
    {.key = "class", .type = CFG_TEXT, CFG_AT(subject_cfg, class_word), .fallback = "", .most = 200,                   \
     .help = "what the subject is, in a word or two: dog"},                                                            \
    {.key = "images", .type = CFG_TEXTS, CFG_AT(subject_cfg, images), .fallback = "",                                  \
     .help = "the subject's pictures: a folder, a list file, or the pictures themselves"},                             \
    {.key = "captions", .type = CFG_TEXT, CFG_AT(subject_cfg, captions), .fallback = "",                               \
     .help = "file with a caption a line for them in their order; else X.txt beside X.jpg; else the template"},        \
    {.key = "token", .type = CFG_TEXTS, CFG_AT(subject_cfg, token), .fallback = "",                                    \
     .help = "the new word, or several; empty: <new1>, of the second subject <new2>, ...; none: no new word. "            \
             "Of dreambooth: a rare word that is there already; empty: one is chosen"},                                     \
    {.key = "initializer", .type = CFG_TEXTS, CFG_AT(subject_cfg, initializer), .fallback = "auto",                    \
     .help = "what each token starts as: an id, a word, a vocabulary entry; auto: ktn, pll, ucd</w> in turn, or the "  \
             "class word where the vocabulary lacks these or the method starts from it"},                                                           \
    {.key = "vectors", .type = CFG_INT, CFG_AT(subject_cfg, vectors), .fallback = "1", .least = 1, .most = 64,         \
     .unit = "rows", .help = "rows each token has, all said one after the other: <new1> <new1>_1 <new1>_2"},           \
    {.key = "style", .type = CFG_BOOL, CFG_AT(subject_cfg, style), .fallback = "false",                                \
     .help = "the subject is a style: captions are \"painting in the style of ...\""},                                 \
    {.key = "template", .type = CFG_TEXT, CFG_AT(subject_cfg, form), .fallback = "",                                   \
     .help = "caption with {} where token and class go; empty: \"photo of a {}\", or as style has it"},                \
    {.key = "regularisation.images", .type = CFG_TEXT, CFG_AT(subject_cfg, reg.images), .fallback = "",                \
     .help = "folder or list of pictures of the class; beside generate: where these are kept"},                        \
    {.key = "regularisation.captions", .type = CFG_TEXT, CFG_AT(subject_cfg, reg.captions), .fallback = "",            \
     .help = "file with their captions, one a line in their order"},                                                   \
    {.key = "regularisation.generate", .type = CFG_INT, CFG_AT(subject_cfg, reg.generate), .fallback = "0",            \
     .most = 100000, .unit = "pictures", .help = "let the base model make this many"},                                 \
    {.key = "regularisation.prompt", .type = CFG_TEXT, CFG_AT(subject_cfg, reg.prompt), .fallback = "", .most = 400,   \
     .help = "from these words; empty: the template with the class"},                                                  \
    {.key = "regularisation.sampler", .type = CFG_TEXT, CFG_AT(subject_cfg, reg.sampler), .fallback = "ddim",          \
     .most = 40, .help = "by this sampler, as cfarm sample has them"},                                                 \
    {.key = "regularisation.steps", .type = CFG_INT, CFG_AT(subject_cfg, reg.sampling_steps), .fallback = "50",        \
     .least = 1, .most = 1000, .help = "in this many of its steps"},                                                   \
    {.key = "regularisation.guidance", .type = CFG_REAL, CFG_AT(subject_cfg, reg.guidance), .fallback = "6",           \
     .least = 0, .most = 100, .help = "with this guidance"},                                                           \
    {.key = "regularisation.eta", .type = CFG_REAL, CFG_AT(subject_cfg, reg.eta), .fallback = "1", .least = 0,         \
     .most = 1, .help = "of ddim: the share of fresh noise, 1 being the authors' DDPM"},                               \
    {.key = "regularisation.seed", .type = CFG_INT, CFG_AT(subject_cfg, reg.seed), .fallback = "0", .least = 0,        \
     .most = 9e15, .help = "and this seed"},                                                                           \
    {.key = "regularisation.index", .type = CFG_TEXT, CFG_AT(subject_cfg, reg.index), .fallback = "",                  \
     .help = "captioned folder or list, or a file of cfarm reg index, to choose from by captions"},                    \
    {.key = "regularisation.similarity", .type = CFG_REAL, CFG_AT(subject_cfg, reg.similarity), .fallback = "0.85",    \
     .least = -1, .most = 1, .help = "least cosine between a caption of the index and the class's own"},               \
    {.key = "regularisation.count", .type = CFG_INT, CFG_AT(subject_cfg, reg.count), .fallback = "0",                  \
     .most = 1000000, .unit = "pictures", .help = "how many are wanted; 0: all of images, 200 of index"}

enum { VECTOR_ROOM = 5 }; /* "_63", a terminator and a byte to spare */

static const cfg_field subject_fields[] = {SUBJECT_ROWS, CFG_END};

static const char *const flip_names[] = {"auto", "yes", "no", NULL};
static const char *const compat_names[] = {"paper", "diffusers", NULL};
static const char *const auto_word[] = {"auto", NULL};

const cfg_field data_fields[] = {
    SUBJECT_ROWS,
    {.key = "subjects", .type = CFG_TABLE, CFG_AT(data_cfg, subjects), .fallback = "",
     .help = "several subjects trained jointly into one concept, each with the keys above",
     .rows = subject_fields, .each = sizeof(subject_cfg)},
    {.key = "augment", .type = CFG_BOOL, CFG_AT(data_cfg, augment), .fallback = "true",
     .help = "show the subject smaller and larger, with words for it before the caption"},
    {.key = "flip", .type = CFG_CHOICE, CFG_AT(data_cfg, flip), .fallback = "auto", .names = flip_names,
     .help = "mirror every second picture; auto: yes, with compat diffusers and of dreambooth no"},
    {.key = "center_crop", .type = CFG_BOOL, CFG_AT(data_cfg, center_crop), .fallback = "false",
     .help = "where a part of a picture is cut out at random: the middle instead"},
    {.key = "resolution", .type = CFG_INT, CFG_AT(data_cfg, resolution), .fallback = "auto", .least = 32,
     .most = 4096, .unit = "pixels", .names = auto_word, .help = "side of the square trained on; auto: the model's"},
    {.key = "compat", .type = CFG_CHOICE, CFG_AT(data_cfg, compat), .fallback = "paper", .names = compat_names,
     .help = "whose details to follow: the paper's code, or the training script of diffusers"},
    {.key = "prior_weight", .type = CFG_REAL, CFG_AT(data_cfg, prior_weight), .fallback = "1", .least = 0,
     .most = 1000, .help = "weight of the regularisation part of the loss"},
    {.key = "cut_mix", .type = CFG_PERCENT, CFG_AT(data_cfg, cut_mix), .fallback = "0%", .least = 0, .most = 1,
     .help = "of several subjects: this part of the samples shows two of them side by side (SVDiff's authors: 60%)"},
    {.key = "batch", .type = CFG_INT, CFG_AT(data_cfg, batch), .fallback = "auto", .least = 1, .most = 4096,
     .unit = "pictures", .names = auto_word, .help = "pictures a step, half of the subject, half of its class; auto: "
                                                      "as the method's recipe has it"},
    {.key = "root", .type = CFG_TEXT, CFG_AT(data_cfg, root), .fallback = "",
     .help = "folder that relative paths start from; set by the farm"},
    CFG_END};

bool data_flip(const data_cfg *c)
{
    enum { AUTO, YES };
    bool usual = c->manner.show == DATA_SQUASHED || (c->manner.show == DATA_RESIZED && c->compat == COMPAT_PAPER);

    return c->flip == YES || (c->flip == AUTO && usual);
}

int data_batch(const data_cfg *c)
{
    if (c->batch != CFG_WORD)
        return (int)c->batch;
    return c->compat == COMPAT_PAPER ? 8 : 4;
}

int data_subjects(const data_cfg *c)
{
    return c->subjects.n ? (int)c->subjects.n : 1;
}

const subject_cfg *data_subject(const data_cfg *c, int i)
{
    CHECK(i >= 0 && i < data_subjects(c));
    return c->subjects.n ? (const subject_cfg *)c->subjects.at + i : &c->one;
}

const char *data_chosen(const data_cfg *c, int i)
{
    return i < SUBJECT_WORDS_MOST ? c->rare[i] : "";
}

static void name_token(char out[SUBJECT_WORD], const data_cfg *c, int i)
{
    if (data_chosen(c, i)[0])
        snprintf(out, SUBJECT_WORD, "%s", data_chosen(c, i));
    else if (c->manner.rare_words)
        snprintf(out, SUBJECT_WORD, "<rare%d>", i + 1); /* still to be chosen */
    else
        snprintf(out, SUBJECT_WORD, "<new%d>", i + 1);
}

int subject_tokens(char out[SUBJECT_WORDS_MOST][SUBJECT_WORD], const data_cfg *c, int i)
{
    const subject_cfg *s = data_subject(c, i);
    int n = 0;

    if (s->token.n == 1 && strcmp(s->token.at[0], "none") == 0)
        return 0;
    for (size_t k = 0; k < (s->token.n ? s->token.n : 1); k++) {
        char first[SUBJECT_WORD];
        if (s->token.n)
            snprintf(first, SUBJECT_WORD, "%s", s->token.at[k]);
        else
            name_token(first, c, i);
        memcpy(out[n++], first, sizeof first);
        for (uint8_t more = 1; more < s->vectors; more++) /* the names diffusers gives them */
            snprintf(out[n++], SUBJECT_WORD, "%.*s_%hhu", SUBJECT_WORD - VECTOR_ROOM, first, more);
    }
    return n;
}

/* ---- what contradicts itself ---- */

static int check_token(const char *word, int64_t vectors, err *e)
{
    int room = SUBJECT_WORD - (vectors > 1 ? VECTOR_ROOM : 1);

    if (!*word)
        return err_set(e, ERR_INPUT, "token: empty; leave it out for <new1>, or write none");
    if (strlen(word) > (size_t)room)
        return err_set(e, ERR_INPUT, "token %.20s...: longer than %d bytes", word, room);
    if (strcmp(word, "none") == 0)
        return err_set(e, ERR_INPUT, "token: none stands beside others; it stands alone");
    for (const char *p = word; *p; p++)
        if (isspace((unsigned char)*p))
            return err_set(e, ERR_INPUT, "token \"%s\": has a blank in it; several tokens are a list: [<a>, <b>]",
                           word);
    if (strstr(word, ">+<"))
        return err_set(e, ERR_INPUT, "token %s: several tokens are a list: [<a>, <b>]", word);
    return 0;
}

static int check_tokens(const subject_cfg *s, err *e)
{
    bool none = s->token.n == 1 && strcmp(s->token.at[0], "none") == 0;
    size_t starts = s->initializer.n, tokens = none ? 0 : s->token.n ? s->token.n : 1;
    bool automatic = starts == 0 || (starts == 1 && strcmp(s->initializer.at[0], "auto") == 0);

    if (tokens * (size_t)s->vectors > SUBJECT_WORDS_MOST)
        return err_set(e, ERR_INPUT, "token: %zu of them; at most %d can be", tokens * (size_t)s->vectors,
                       SUBJECT_WORDS_MOST);
    for (size_t k = 0; k < s->token.n && !none; k++)
        TRY(check_token(s->token.at[k], s->vectors, e));
    if (!automatic && starts != tokens)
        return err_set(e, ERR_INPUT, "initializer: %zu for %zu token%s; give one for each, or auto", starts, tokens,
                       tokens == 1 ? "" : "s");
    return 0;
}

static int check_form(const subject_cfg *s, err *e)
{
    char *filled;

    if (!s->form[0])
        return 0;
    if (s->style)
        return err_set(e, ERR_INPUT, "style beside template; give one of them");
    int rc = caption_fill(&filled, s->form, s->class_word, e);
    free(filled);
    return rc ? err_wrap(e, "template") : 0;
}

static int check_subject(const subject_cfg *s, err *e)
{
    if (!s->class_word[0])
        return err_set(e, ERR_INPUT, "class is missing: what the subject is, in a word or two (class: dog)");
    if (strpbrk(s->class_word, "\n\r\t{}"))
        return err_set(e, ERR_INPUT, "class: a tab, brace or line end in it; write one line of plain words");
    if (s->images.n == 0)
        return err_set(e, ERR_INPUT, "images is missing: the folder with the subject's pictures (images: photos/rex)");
    TRY(check_tokens(s, e));
    TRY(check_form(s, e));
    return regset_check(&s->reg, e);
}

/* "<new1>_2" beside "<new1>": the tokenizer takes the longest word that fits, and nobody else writes such names. */
static bool is_vector_of(const char *word, const char *first)
{
    size_t n = strlen(first);

    return strncmp(word, first, n) == 0 && word[n] == '_' && strspn(word + n + 1, "0123456789") == strlen(word + n + 1);
}

/* A token inside another could not be told from it. Words of the vocabulary end where the word ends. */
static int check_clashes(const data_cfg *c, err *e)
{
    char(*words)[SUBJECT_WORD] = mem_new(2 * SUBJECT_WORDS_MOST, SUBJECT_WORD);
    int n = 0, rc = 0;

    for (int i = 0; i < data_subjects(c) && rc == 0; i++) {
        n += subject_tokens(words + n, c, i);
        if (n > SUBJECT_WORDS_MOST)
            rc = err_set(e, ERR_INPUT, "%d or more tokens in one concept; at most %d can be", n, SUBJECT_WORDS_MOST);
    }
    for (int i = 0; i < n && rc == 0; i++)
        for (int j = 0; j < n && rc == 0; j++) {
            if (i == j || !strstr(words[i], words[j]) || is_vector_of(words[i], words[j]))
                continue;
            if (strcmp(words[i], words[j]) == 0)
                rc = err_set(e, ERR_INPUT, "token %s twice; every one needs a word of its own", words[i]);
            else if (!c->manner.rare_words)
                rc = err_set(e, ERR_INPUT, "token %s has token %s in it; rename one", words[i], words[j]);
        }
    free(words);
    return rc;
}

int data_check(const data_cfg *c, err *e)
{
    if (c->subjects.n > 0 && (c->one.class_word[0] || c->one.images.n || c->one.token.n))
        return err_set(e, ERR_INPUT, "subjects beside %s; move it into the list of subjects",
                       c->one.class_word[0] ? "class" : c->one.images.n ? "images" : "token");
    if (c->center_crop && c->manner.show == DATA_RESIZED && c->compat == COMPAT_PAPER)
        return err_set(e, ERR_INPUT,
                       "center_crop goes with compat: diffusers; the paper's recipe always cuts the middle");
    if (c->cut_mix > 0 && data_subjects(c) < 2)
        return err_set(e, ERR_INPUT, "cut_mix joins pictures of several subjects, and this concept has one; list them under subjects");
    for (int i = 0; i < data_subjects(c); i++)
        if (check_subject(data_subject(c, i), e) != 0)
            return c->subjects.n ? err_wrap(e, "subject %d", i + 1) : ERR_INPUT;
    return check_clashes(c, e);
}
