#include "data/caption.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <unistr.h>

#include "cluster/base/fs.h"
#include "cluster/base/mem.h"
#include "cluster/base/str.h"

enum { FILE_MOST = 64 << 20 };

const char caption_object[] = "photo of a {}";
const char caption_style[] = "painting in the style of {}";

const char *const caption_object_forms[CAPTION_OBJECTS] = {
    "a photo of a {}", "a photo of a clean {}", "a photo of a dirty {}", "a photo of a nice {}",
    "a photo of a cool {}", "a photo of a small {}", "a photo of the {}", "a photo of the cool {}",
    "a photo of the clean {}", "a photo of the nice {}", "a photo of the small {}", "a photo of the weird {}",
    "a photo of the large {}", "a photo of my {}", "a photo of one {}", "the photo of a {}", "a rendering of a {}",
    "a rendition of a {}", "a rendition of the {}", "a cropped photo of a {}", "a cropped photo of the {}",
    "a close-up photo of a {}", "a close-up photo of the {}", "a good photo of a {}", "a good photo of the {}",
    "a dark photo of the {}", "a bright photo of the {}",
};

const char *const caption_style_forms[CAPTION_STYLES] = {
    "a painting in the style of {}", "a clean painting in the style of {}", "a dirty painting in the style of {}",
    "a dark painting in the style of {}", "a cool painting in the style of {}",
    "a bright painting in the style of {}", "a good painting in the style of {}",
    "a nice painting in the style of {}", "a small painting in the style of {}",
    "a weird painting in the style of {}", "a large painting in the style of {}",
    "a cropped painting in the style of {}", "a cropped painting in the style of {}",
    "a close-up painting in the style of {}", "a close-up painting in the style of {}",
    "the painting in the style of {}", "a rendering in the style of {}", "a rendition in the style of {}",
    "a picture in the style of {}",
};

int caption_fill(char **out, const char *form, const char *words, err *e)
{
    const char *hole = strstr(form, "{}");
    str s = {0};

    *out = NULL;
    if (!hole || strstr(hole + 2, "{}"))
        return err_set(e, ERR_INPUT, "\"%s\" needs one {}, where the words go: \"%s\"", form, caption_object);
    str_add(&s, "%.*s%s%s", (int)(hole - form), form, words, hole + 2);
    *out = s.at;
    return 0;
}

/* Without the blanks around it; ends the text in place. */
static char *stripped(char *line)
{
    while (isspace((unsigned char)*line))
        line++;
    char *end = line + strlen(line);
    while (end > line && isspace((unsigned char)end[-1]))
        end--;
    *end = 0;
    return line;
}

static int take_lines(caption_lines *out, char *text, err *e)
{
    size_t number = 1, gap = 0;

    for (char *next, *line = text; line; line = next, number++) {
        next = strchr(line, '\n');
        if (next)
            *next++ = 0;
        line = stripped(line);
        if (!*line) {
            gap = gap ? gap : number;
            continue;
        }
        if (gap)
            return err_set(e, ERR_INPUT, "line %zu is empty and later ones are not; fill it or take it out", gap);
        out->at = mem_grow(out->at, out->n + 1, sizeof *out->at);
        out->at[out->n++] = mem_text(line);
    }
    return out->n ? 0 : err_set(e, ERR_INPUT, "no text in it; write one a line");
}

static int check_text(const char *text, size_t n, err *e)
{
    if (memchr(text, 0, n) || u8_check((const uint8_t *)text, n))
        return err_set(e, ERR_INPUT, "not a text in UTF-8; save it as one");
    return 0;
}

int caption_read(caption_lines *out, const char *path, err *e)
{
    char *text;
    size_t n;

    *out = (caption_lines){0};
    TRY(fs_read(path, &text, &n, FILE_MOST, e));
    int rc = check_text(text, n, e);
    if (rc == 0)
        rc = take_lines(out, str_starts(text, "\xef\xbb\xbf") ? text + 3 : text, e); /* a byte-order mark */
    free(text);
    if (rc == 0)
        return 0;
    caption_free(out);
    return err_wrap(e, "%s", path);
}

void caption_free(caption_lines *l)
{
    for (size_t i = 0; i < l->n; i++)
        free(l->at[i]);
    free(l->at);
    *l = (caption_lines){0};
}
