/* Opening: which pictures with which captions, and whether each of them can be used. */
#include "data/subject.h"

#include <stdlib.h>
#include <string.h>

#include "cluster/base/mem.h"
#include "cluster/base/str.h"
#include "data/caption.h"

static const char *form_of(const subject_cfg *s)
{
    return s->form[0] ? s->form : s->style ? caption_style : caption_object;
}

/* The caption of the class itself, or what its pictures are to be made from. diffusers takes the class prompt as it is. */
static int own_caption(char **out, const data_cfg *c, const subject_cfg *s, err *e)
{
    if (s->reg.generate > 0 && s->reg.prompt[0]) {
        *out = mem_text(s->reg.prompt);
        return 0;
    }
    return caption_fill(out, c->compat == COMPAT_DIFFUSERS ? "{}" : form_of(s), s->class_word, e);
}

/* "photo of a <new1> dog" */
static int token_caption(char **out, const char *form, const data_cfg *c, int i, err *e)
{
    char words[SUBJECT_WORDS_MOST][SUBJECT_WORD];
    int n = subject_tokens(words, c, i);
    str s = {0};

    for (int k = 0; k < n; k++)
        str_add(&s, "%s%s", k ? " " : "", words[k]);
    if (!c->manner.drawn_captions || n == 0)
        str_add(&s, "%s%s", n ? " " : "", data_subject(c, i)->class_word);
    int rc = caption_fill(out, form, s.at, e);
    str_free(&s);
    return rc;
}

/* All that may be drawn for subject i; none where it has a template of its own. */
static int fill_forms(caption_lines *out, const data_cfg *c, int i, err *e)
{
    const subject_cfg *s = data_subject(c, i);
    const char *const *forms = s->style ? caption_style_forms : caption_object_forms;
    size_t n = s->style ? CAPTION_STYLES : CAPTION_OBJECTS;

    if (!c->manner.drawn_captions || s->form[0])
        return 0;
    out->at = NEW_N(char *, n);
    while (out->n < n) {
        TRY(token_caption(&out->at[out->n], forms[out->n], c, i, e));
        out->n++;
    }
    return 0;
}

/* Caption file (line i mod n, as the authors have it), else beside the pictures, else the template. */
static int caption_targets(subject *s, const data_cfg *c, int i, err *e)
{
    image_list *l = &s->keep[0];
    const char *file = s->cfg->captions;
    char path[FS_PATH], *own;
    caption_lines lines = {0};

    if (file[0]) {
        TRY(fs_join(path, c->root, file, e));
        if (caption_read(&lines, path, e) != 0)
            return err_wrap(e, "captions");
    } else {
        TRY(image_list_beside(l, e));
    }
    s->written = lines.n || (l->n && l->at[0].caption);
    int rc = token_caption(&own, form_of(s->cfg), c, i, e);
    if (rc == 0 && !lines.n && l->n && !l->at[0].caption)
        rc = fill_forms(&s->forms, c, i, e);
    if (rc == 0 && lines.n > l->n)
        rc = err_set(e, ERR_INPUT, "captions: %s: %zu lines for %zu pictures; take the spare ones out", path, lines.n,
                     l->n);
    for (size_t k = 0; k < l->n && rc == 0; k++) {
        const char *text = lines.n ? lines.at[k % lines.n] : l->at[k].caption ? l->at[k].caption : own;
        char *copy = mem_text(text);
        free(l->at[k].caption);
        l->at[k].caption = copy;
    }
    caption_free(&lines);
    free(own);
    return rc;
}

static uint64_t id_of(const char *path)
{
    uint64_t h = 0xcbf29ce484222325; /* FNV-1a, 64 bits */

    for (; *path; path++)
        h = (h ^ (unsigned char)*path) * 0x100000001b3;
    return h;
}

/* How a subject is opened. */
typedef struct {
    const regset_embed *embed;
    image_checks *seen; /* NULL: for training; else for a plan */
} opening;

static int take(subject_picture **out, uint32_t *n, const image_list *l, const opening *how, err *e)
{
    image_info m;

    *out = NEW_N(subject_picture, l->n);
    for (*n = 0; *n < l->n; (*n)++) {
        const image_entry *at = &l->at[*n];
        uint64_t id = id_of(at->path);
        TRY(how->seen ? image_check(&m, how->seen, id, at->path, e) : image_probe(&m, at->path, e));
        (*out)[*n] = (subject_picture){at->path, at->caption, m.h, m.w, id};
    }
    return 0;
}

/* Targets name a token of theirs, class pictures none of anybody's. */
static int check_captions(const subject *s, const data_cfg *c, int which, err *e)
{
    bool learned = !c->manner.rare_words; /* a word of the vocabulary may stand in other words and captions */
    char words[SUBJECT_WORDS_MOST][SUBJECT_WORD];

    for (int i = 0; i < data_subjects(c); i++) {
        int n = subject_tokens(words, c, i);
        bool known = learned || data_subject(c, i)->token.n > 0 || data_chosen(c, i)[0]; /* a plan over a missing base chooses none */
        for (uint32_t p = 0; p < s->targets && i == which && n > 0 && known; p++) {
            bool named = false;
            for (int k = 0; k < n; k++)
                named |= strstr(s->target[p].caption, words[k]) != NULL;
            if (!named)
                return err_set(e, ERR_INPUT, "%s: its caption \"%.80s\" is without %s; write it in, or token: none",
                               s->target[p].path, s->target[p].caption, words[0]);
        }
        for (uint32_t p = 0; p < s->priors && learned; p++)
            for (int k = 0; k < n; k++)
                if (strstr(s->prior[p].caption, words[k]))
                    return err_set(e, ERR_INPUT,
                                   "%s: a regularisation picture whose caption \"%.80s\" has token %s; take it out",
                                   s->prior[p].path, s->prior[p].caption, words[k]);
    }
    return 0;
}

static int check_apart(const subject *s, err *e)
{
    for (uint32_t t = 0; t < s->targets; t++)
        for (uint32_t p = 0; p < s->priors; p++)
            if (s->target[t].id == s->prior[p].id)
                return err_set(e, ERR_INPUT, "%s: both a picture of the subject and a regularisation picture; take it "
                                             "out of one", s->target[t].path);
    return 0;
}

static int open_one(subject *s, const data_cfg *c, int i, const opening *how, err *e)
{
    image_list *mine = &s->keep[0], *class_list = &s->keep[1];
    char *own;

    s->cfg = data_subject(c, i);
    for (size_t k = 0; k < s->cfg->images.n; k++)
        if (image_list_add(mine, c->root, s->cfg->images.at[k], e) != 0)
            return err_wrap(e, "images");
    TRY(caption_targets(s, c, i, e));
    TRY(own_caption(&own, c, s->cfg, e));
    const regset_cfg *reg = &s->cfg->reg;
    int rc = how->seen ? regset_look(class_list, &s->later, reg, c->root, own, e)
                       : regset_open(class_list, &s->told, reg, c->root, own, c->model, how->embed, e);
    free(own);
    if (rc != 0)
        return err_wrap(e, "regularisation");
    TRY(take(&s->target, &s->targets, mine, how, e));
    TRY(take(&s->prior, &s->priors, class_list, how, e));
    TRY(check_captions(s, c, i, e));
    return check_apart(s, e);
}

static int open_them(subjects *out, const data_cfg *c, const opening *how, err *e)
{
    *out = (subjects){0};
    TRY(data_check(c, e));
    *out = (subjects){NEW_N(subject, data_subjects(c)), data_subjects(c)};
    for (int i = 0; i < out->n; i++) {
        int rc = open_one(&out->at[i], c, i, how, e);
        if (rc == 0)
            continue;
        if (c->subjects.n)
            err_wrap(e, "subject %d", i + 1);
        subjects_close(out);
        return rc;
    }
    return 0;
}

int subjects_open(subjects *out, const data_cfg *c, const regset_embed *embed, err *e)
{
    return open_them(out, c, &(opening){.embed = embed}, e);
}

int subjects_look(subjects *out, const data_cfg *c, image_checks *seen, err *e)
{
    return open_them(out, c, &(opening){.seen = seen}, e);
}

static bool same_texts(cfg_texts a, cfg_texts b)
{
    bool same = a.n == b.n;

    for (size_t i = 0; i < a.n && same && a.at != b.at; i++)
        same = strcmp(a.at[i], b.at[i]) == 0;
    return same;
}

static bool same_text(const char *a, const char *b) { return a == b || strcmp(a, b) == 0; }

static bool same_reg(const regset_cfg *a, const regset_cfg *b)
{
    return same_text(a->images, b->images) && same_text(a->captions, b->captions) && same_text(a->index, b->index) &&
           same_text(a->prompt, b->prompt) && same_text(a->sampler, b->sampler) && a->generate == b->generate &&
           a->count == b->count && a->similarity == b->similarity && a->sampling_steps == b->sampling_steps &&
           a->seed == b->seed && a->guidance == b->guidance && a->eta == b->eta;
}

static bool same_subject(const subject_cfg *a, const subject_cfg *b)
{
    return same_texts(a->images, b->images) && same_text(a->class_word, b->class_word) && same_text(a->captions, b->captions) &&
           a->style == b->style && same_text(a->form, b->form) && same_reg(&a->reg, &b->reg);
}

/* The template names every token by itself. */
bool subjects_serve(const subjects *s, const data_cfg *of, const data_cfg *c)
{
    bool same = s->n == data_subjects(c) && of->compat == c->compat && same_text(of->root, c->root) &&
                memcmp(&of->manner, &c->manner, sizeof c->manner) == 0;

    for (int i = 0; i < s->n && same; i++) {
        subject look = s->at[i];
        if (!look.written)
            look.targets = 0;
        same = same_subject(data_subject(of, i), data_subject(c, i)) && check_captions(&look, c, i, NULL) == 0;
    }
    return same;
}

void subjects_close(subjects *s)
{
    for (int i = 0; i < s->n; i++) {
        free(s->at[i].target);
        free(s->at[i].prior);
        image_list_free(&s->at[i].keep[0]);
        image_list_free(&s->at[i].keep[1]);
        caption_free(&s->at[i].forms);
    }
    free(s->at);
    *s = (subjects){0};
}

int data_missing(regset_need **out, int *n, const data_cfg *c, err *e)
{
    *out = NULL;
    TRY(data_check(c, e));
    *n = data_subjects(c);
    *out = NEW_N(regset_need, *n);
    for (int i = 0; i < *n; i++) {
        char *own;
        int rc = own_caption(&own, c, data_subject(c, i), e);
        if (rc == 0)
            rc = regset_missing(&(*out)[i], &data_subject(c, i)->reg, c->root, own, c->model, e);
        free(own);
        if (rc == 0)
            continue;
        free(*out);
        *out = NULL;
        return rc;
    }
    return 0;
}
