/* Mistakes people make with pictures, captions and their settings, and the sentence each of them gets. A row: settings
 * over the files that plant() lays out, and the message, ROOT standing for their folder. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "cluster/base/fs.h"
#include "cluster/base/hash.h"
#include "cluster/base/str.h"
#include "data/batch.h"
#include "tests/data/data_kit.h"

static const struct {
    const char *yaml, *says;
} mistakes[] = {
    /* pictures */
    {"{class: dog, images: bad/empty.jpg}",
     "ROOT/bad/empty.jpg: empty file (0 bytes); copy it again"},
    {"{class: dog, images: bad/text.jpg}",
     "ROOT/bad/text.jpg: not a JPEG, PNG or WebP; convert it or take it out"},
    {"{class: dog, images: bad/page.jpg}",
     "ROOT/bad/page.jpg: a web page, SVG or other XML text, not a JPEG, PNG or WebP; download the picture itself"},
    {"{class: dog, images: bad/phone.jpg}",
     "ROOT/bad/phone.jpg: a HEIC, AVIF or video file, not a JPEG, PNG or WebP; convert it"},
    {"{class: dog, images: bad/moving.png}",
     "ROOT/bad/moving.png: a GIF, not a JPEG, PNG or WebP; convert it"},
    {"{class: dog, images: bad/lfs.png}",
     "ROOT/bad/lfs.png: a Git LFS pointer, not a JPEG, PNG or WebP; fetch the file itself: git lfs pull"},
    {"{class: dog, images: bad/half.jpg}",
     "ROOT/bad/half.jpg: cut short: the file ends before the picture does; copy or export it again"},
    {"{class: dog, images: bad/head.jpg}",
     "ROOT/bad/head.jpg: cut short: the file ends before the picture does; copy or export it again"},
    {"{class: dog, images: bad/half.png}",
     "ROOT/bad/half.png: cut short: the file ends before the picture does; copy or export it again"},
    {"{class: dog, images: bad/half.webp}",
     "ROOT/bad/half.webp: cut short: the file ends before the picture does; copy or export it again"},
    {"{class: dog, images: bad/bent.png}",
     "ROOT/bad/bent.png: damaged (IHDR: CRC error); export it again or take it out"},
    {"{class: dog, images: bad/animated.webp}",
     "ROOT/bad/animated.webp: an animated WebP; save one of its pictures as a still"},
    {"{class: dog, images: bad/huge.png}",
     "ROOT/bad/huge.png: 30000 x 30000 is 900 million pixels, more than the 178 million allowed; scale it down"},
    {"{class: dog, images: bad/long.png}",
     "ROOT/bad/long.png: 70000 x 1: a side is longer than the 65535 pixels allowed; cut it"},
    {"{class: dog, images: folders}",
     "ROOT/folders/inside.jpg: a folder, not a file"},
    {"{class: dog, images: bad/pipe.jpg}",
     "ROOT/bad/pipe.jpg: a device or pipe, not a file"},
    {"{class: dog, images: bad/dangling.jpg}",
     "images: ROOT/bad/dangling.jpg: a link to something that is not there"},
    {"{class: dog, images: rex, regularisation: {images: bad/half.jpg}}",
     "ROOT/bad/half.jpg: cut short: the file ends before the picture does; copy or export it again"},
    /* lists and captions */
    {"{class: dog}",
     "images is missing: the folder with the subject's pictures (images: photos/rex)"},
    {"{images: rex}",
     "class is missing: what the subject is, in a word or two (class: dog)"},
    {"{class: dog, images: rexx}",
     "images: ROOT/rexx: no such file or folder; there is rex beside it"},
    {"{class: dog, images: no/where}",
     "images: ROOT/no/where: no such file or folder, nor is there a folder ROOT/no"},
    {"{class: dog, images: nothing}",
     "images: ROOT/nothing: no .jpg, .jpeg, .png or .webp in this folder; name the one with the pictures"},
    {"{class: dog, images: listed}",
     "images: ROOT/listed: a folder without pictures but with a list; name ROOT/listed/images.txt"},
    {"{class: dog, images: broken.txt}",
     "images: ROOT/broken.txt: line 2: rex/9.png: no such file, from the list's folder or from ROOT"},
    {"{class: dog, images: blank.txt}",
     "images: ROOT/blank.txt: no text in it; write one a line"},
    {"{class: dog, images: rex, captions: none.txt}",
     "captions: ROOT/none.txt: cannot open: no such file or directory"},
    {"{class: dog, images: rex, captions: blank.txt}",
     "captions: ROOT/blank.txt: no text in it; write one a line"},
    {"{class: dog, images: rex, captions: gap.txt}",
     "captions: ROOT/gap.txt: line 2 is empty and later ones are not; fill it or take it out"},
    {"{class: dog, images: rex, captions: seven.txt}",
     "captions: ROOT/seven.txt: 7 lines for 5 pictures; take the spare ones out"},
    {"{class: dog, images: rex, captions: latin1.txt}",
     "captions: ROOT/latin1.txt: not a text in UTF-8; save it as one"},
    {"{class: dog, images: rex, captions: rex/0.png}",
     "captions: ROOT/rex/0.png: not a text in UTF-8; save it as one"},
    {"{class: dog, images: rex, captions: rex}",
     "captions: ROOT/rex: a folder, not a file"},
    {"{class: dog, images: some}",
     "ROOT/some/2.png: no caption, but 1 of the 3 pictures have one; write it or take them out"},
    {"{class: dog, images: twoline}",
     "ROOT/twoline/0.txt: 2 lines; the caption of one picture is one line"},
    {"{class: dog, images: rex, captions: plain.txt}",
     "ROOT/rex/0.png: its caption \"a dog\" is without <new1>; write it in, or token: none"},
    /* regularisation */
    {"{class: dog, images: rex, regularisation: {images: dogs, index: dogs}}",
     "regularisation: index beside images; give one of them"},
    {"{class: dog, images: rex, regularisation: {index: dogs, generate: 9}}",
     "regularisation: index beside generate; give one of them"},
    {"{class: dog, images: rex, regularisation: {generate: 9, captions: plain.txt}}",
     "regularisation: captions beside generate; generated pictures have their prompt"},
    {"{class: dog, images: rex, regularisation: {generate: 9, count: 9}}",
     "regularisation: count beside generate; generate is the count"},
    {"{class: dog, images: rex, regularisation: {captions: plain.txt}}",
     "regularisation: captions without pictures; give images, generate or index"},
    {"{class: dog, images: rex, regularisation: {images: dogs, count: 200}}",
     "regularisation: dogs: 3 pictures, 200 are wanted; add some, set count: 3, or use generate: 200"},
    {"{class: dog, images: rex, regularisation: {images: dogs, captions: plain.txt}}",
     "regularisation: ROOT/plain.txt: 2 captions for 3 pictures; there must be one for each, in their order"},
    {"{class: dog, images: rex, regularisation: {images: dogs, captions: tokens.txt}}",
     "ROOT/dogs/1.png: a regularisation picture whose caption \"the <new1> dog\" has token <new1>; take it out"},
    {"{class: dog, images: rex, regularisation: {images: rex}}",
     "ROOT/rex/0.png: both a picture of the subject and a regularisation picture; take it out of one"},
    {"{class: dog, images: rex, regularisation: {index: dogs, count: 2}}",
     "regularisation: dogs: no captions to choose by; give regularisation.captions or .txt files"},
    {"{class: dog, images: rex, regularisation: {index: told.txt}}",
     "regularisation: told.txt: 2 captioned pictures, 200 are wanted; set count: 2, add pictures, or use "
     "generate: 200"},
    {"{class: dog, images: rex, regularisation: {index: told.txt, similarity: 85}}",
     "concept:1:73: 'regularisation.similarity' is '85', not a number from -1 to 1"},
    {"{class: dog, images: rex, regularization: {images: dogs}}",
     "concept:1:27: unknown key 'regularization'; did you mean 'regularisation'?"},
    {"{class: dog, images: rex, regularisation: {folder: dogs}}",
     "concept:1:44: unknown key 'regularisation.folder'; known are images, captions, generate, prompt, "
     "sampler, steps, guidance, eta, seed, index, similarity, count"},
    {"{class: dog, images: rex, regularisation: dogs}",
     "concept:1:43: 'regularisation' is 'dogs', not a map of images, captions, generate, prompt, sampler, "
     "steps, guidance, eta, seed, index, similarity, count"},
    {"{class: dog, images: rex, cut_mix: 50%}",
     "cut_mix joins pictures of several subjects, and this concept has one; list them under subjects"},
    /* words and the rest */
    {"{class: dog, images: rex, token: [<a>, <a>]}",
     "token <a> twice; every one needs a word of its own"},
    {"{class: dog, images: rex, token: [<a>, <a>b]}",
     "token <a>b has token <a> in it; rename one"},
    {"subjects: [{class: dog, images: rex, token: <a>}, {class: cat, images: dogs, token: <a>}]",
     "token <a> twice; every one needs a word of its own"},
    {"subjects: [{class: dog, images: rex}, {class: cat}]",
     "subject 2: images is missing: the folder with the subject's pictures (images: photos/rex)"},
    {"{class: dog, images: rex, token: my dog}",
     "token \"my dog\": has a blank in it; several tokens are a list: [<a>, <b>]"},
    {"{class: dog, images: rex, token: <a>+<b>}",
     "token <a>+<b>: several tokens are a list: [<a>, <b>]"},
    {"{class: dog, images: rex, token: [<a>, none]}",
     "token: none stands beside others; it stands alone"},
    {"{class: dog, images: rex, token: ''}",
     "token: empty; leave it out for <new1>, or write none"},
    {"{class: dog, images: rex, token: [<a>, <b>], initializer: [cat]}",
     "initializer: 1 for 2 tokens; give one for each, or auto"},
    {"{class: dog, images: rex, template: a photo}",
     "template: \"a photo\" needs one {}, where the words go: \"photo of a {}\""},
    {"{class: dog, images: rex, template: 'photo of {}', style: true}",
     "style beside template; give one of them"},
    {"{class: \"dog\\nwalk\", images: rex}",
     "class: a tab, brace or line end in it; write one line of plain words"},
    {"{class: dog, subjects: [{class: dog, images: rex}]}",
     "subjects beside class; move it into the list of subjects"},
    {"{class: dog, images: rex, center_crop: true}",
     "center_crop goes with compat: diffusers; the paper's recipe always cuts the middle"},
    {"{class: dog, images: rex, compat: hf}",
     "concept:1:35: 'compat' is 'hf', not paper or diffusers"},
    {"{class: dog, images: rex, batch: 0}",
     "concept:1:34: 'batch' is '0', not a whole number from 1 to 4096 pictures, or auto"},
    {"{class: dog, images: rex, resolution: 100}",
     "resolution 100 is no multiple of 8; 96 and 104 are"},
    {"{class: dog, images: rex, token: dog}",
     "token dog: a word of the vocabulary already; take a new one, <dog>"},
    {"{class: dog, images: rex, initializer: 100000}",
     "token <new1>: initializer 100000: the vocabulary ends at 199"},
    {"{class: dog, images: rex, initializer: walk}",
     "token <new1>: initializer walk: \"walk\" is 4 tokens (\"w\", \"a\", \"l\", \"k</w>\"); a word of one token "
     "is needed"},
    {"{class: dog, images: rex, token: [<a>, <b>, <c>, <d>]}",
     "token <d>: only 3 tokens have a row to start from by themselves; give initializer"},
    {"{class: dog, images: rex, captions: long.txt}",
     "ROOT/rex/0.png: its caption has <new1> only after the 77 tokens the model reads; shorten it"},
};
enum { MISTAKES = sizeof mistakes / sizeof *mistakes };

/* ---- what they are made over ---- */

/* The first `part` of a good picture, one byte of it changed when bend says where. */
static void plant_part(const char *to, const char *from, double part, size_t bend)
{
    char path[FS_PATH], *at;
    size_t n;
    err e = {0};

    snprintf(path, sizeof path, "%s/tests/data/pictures/%s", kit_source(), from);
    if (fs_read(path, &at, &n, 1 << 20, &e) != 0)
        fail_msg("%s", e.text);
    at[bend] ^= bend ? 1 : 0;
    kit_bytes(to, at, (size_t)((double)n * part));
    free(at);
}

static void put_be32(uint8_t *to, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        to[i] = (uint8_t)(v >> (24 - 8 * i));
}

/* A PNG's header that says h x w, and no pixels: what is refused for its size is refused before it is decoded. */
static void plant_header(const char *name, uint32_t h, uint32_t w)
{
    uint8_t p[8 + 25 + 12] = "\x89PNG\r\n\x1a\n\0\0\0\rIHDR";

    put_be32(p + 16, w);
    put_be32(p + 20, h);
    p[24] = 8; /* bits, of grey */
    put_be32(p + 29, hash_crc32(0, p + 12, 17));
    memcpy(p + 37, "IDAT", 4);
    kit_bytes(name, p, sizeof p);
}

static void plant_pictures(void)
{
    static const uint8_t phone[] = "\0\0\0\x18" "ftypheic";
    static const uint8_t animated[] = "RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\x02\0\0\0\7\0\0\7\0";

    kit_text("bad/empty.jpg", "");
    kit_text("bad/text.jpg", "once upon a time");
    kit_text("bad/page.jpg", "<!DOCTYPE html><title>404</title>");
    kit_bytes("bad/phone.jpg", phone, sizeof phone - 1);
    kit_text("bad/moving.png", "GIF89a");
    kit_text("bad/lfs.png", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n");
    plant_part("bad/half.jpg", "jpeg_420.jpg", 0.8, 0);
    plant_part("bad/head.jpg", "jpeg_420.jpg", 0.1, 0);
    plant_part("bad/half.png", "png_2_8.png", 0.5, 0);
    plant_part("bad/half.webp", "webp_lossy.webp", 0.5, 0);
    plant_part("bad/bent.png", "png_2_8.png", 1, 20);
    kit_bytes("bad/animated.webp", animated, sizeof animated);
    plant_header("bad/huge.png", 30000, 30000);
    plant_header("bad/long.png", 1, 70000);
    kit_text("folders/inside.jpg/x", "");
    assert_int_equal(mkfifo(kit_path("bad/pipe.jpg"), 0600), 0);
    assert_int_equal(symlink("nowhere.jpg", kit_path("bad/dangling.jpg")), 0);
}

static void plant_lists(void)
{
    kit_pictures("rex", 5, 8, 8, 1);
    kit_pictures("dogs", 3, 8, 8, 2);
    kit_text("nothing/readme.md", "");
    kit_text("listed/images.txt", "../rex/0.png\n");
    kit_text("broken.txt", "rex/0.png\nrex/9.png\n");
    kit_text("blank.txt", " \n\n");
    kit_text("gap.txt", "<new1> a\n\n<new1> b\n");
    kit_text("seven.txt", "<new1>\n<new1>\n<new1>\n<new1>\n<new1>\n<new1>\n<new1>\n");
    kit_text("latin1.txt", "<new1> caf\xe9\n");
    kit_text("plain.txt", "a dog\nanother dog\n");
    kit_text("tokens.txt", "a dog\nthe <new1> dog\na dog\n");
    kit_text("told.txt", "dogs/0.png\tx\ndogs/1.png\ty\n");
    kit_pictures("some", 3, 8, 8, 3);
    kit_text("some/1.txt", "the <new1> dog");
    kit_pictures("twoline", 1, 8, 8, 3);
    kit_text("twoline/0.txt", "the <new1> dog\nin the park\n");
    str s = {0};
    for (int i = 0; i < 80; i++)
        str_add(&s, "dog ");
    str_add(&s, "<new1>\n");
    kit_text("long.txt", s.at);
    str_free(&s);
}

static int plant(void **state)
{
    if (kit_open(state) != 0)
        return -1;
    plant_pictures();
    plant_lists();
    return 0;
}

/* ---- made ---- */

/* All that is asked before a first step, in the order of a plan and a start. */
static int make(const char *yaml, err *e)
{
    const data_cfg *c;
    subjects s;
    subject_word w[SUBJECT_WORDS_MOST];
    batch_source *b = NULL;
    int n;

    TRY(kit_cfg_try(&c, yaml, e));
    image_checks *seen = image_checks_new();
    int rc = subjects_look(&s, c, seen, e);
    image_checks_free(seen);
    if (rc != 0)
        return rc;
    subjects_close(&s);
    tokenizer *t = kit_tokenizer(true);
    rc = subject_words(w, &n, c, t, e);
    batch_opts o = {.side = c->resolution > 0 ? (int)c->resolution : 64, .factor = 8, .channels = 4};
    if (rc == 0)
        rc = batch_open(&b, c, t, &o, e);
    batch_close(b);
    tokenizer_close(t);
    return rc;
}

/* ROOT for the folder, in place. */
static void rooted(char *text)
{
    char root[FS_PATH];
    size_t n;

    snprintf(root, sizeof root, "%s", kit_path(""));
    n = strlen(root) - 1; /* without the slash */
    root[n] = 0;
    for (char *at; (at = strstr(text, root)) != NULL;) {
        memcpy(at, "ROOT", 4);
        memmove(at + 4, at + n, strlen(at + n) + 1);
    }
}

static void every_mistake_gets_its_sentence(void **state)
{
    int wrong = 0;

    (void)state;
    for (size_t i = 0; i < MISTAKES; i++) {
        err e = {0};
        if (make(mistakes[i].yaml, &e) == 0)
            snprintf(e.text, sizeof e.text, "accepted");
        rooted(e.text);
        if (strcmp(e.text, mistakes[i].says) == 0)
            continue;
        print_error("%s\n   gets  %s\n   wants %s\n", mistakes[i].yaml, e.text, mistakes[i].says);
        wrong++;
    }
    assert_int_equal(wrong, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_mistake_gets_its_sentence)};

    return cmocka_run_group_tests(tests, plant, kit_close);
}
