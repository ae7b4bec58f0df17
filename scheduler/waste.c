#include "scheduler/waste.h"

static const struct { const char *word, *text; } row[WASTES] = {
    {"train", "train"},
    {"load", "load"},
    {"reduce", "reduce"},
    {"resize", "resize"},
    {"checkpoint", "checkpoint"},
    {"idle_no_work", "idle, no work"},
    {"idle_scheduler", "idle, scheduler"},
    {"lost", "lost"},
};

const char *waste_word(waste_kind k) { return row[k].word; }
const char *waste_text(waste_kind k) { return row[k].text; }

double waste_total(const waste *w)
{
    double sum = 0;

    for (int k = 0; k < WASTES; k++)
        sum += w->seconds[k];
    return sum;
}

double waste_share(const waste *w, waste_kind k)
{
    double sum = waste_total(w);

    return sum > 0 ? w->seconds[k] / sum : 0;
}

void waste_lose(waste *w, double seconds)
{
    if (seconds > w->seconds[WASTE_TRAIN])
        seconds = w->seconds[WASTE_TRAIN];
    if (!(seconds > 0))
        return;
    w->seconds[WASTE_TRAIN] -= seconds;
    w->seconds[WASTE_LOST] += seconds;
}

json_t *waste_json(const waste *w)
{
    json_t *o = json_object();

    for (int k = 0; k < WASTES; k++)
        json_object_set_new(o, row[k].word, json_real(w->seconds[k]));
    return o;
}
