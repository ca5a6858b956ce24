/* Prints twice a window which sound is in 16-bit mono audio at ACDNET_RATE, read from standard input:
 *
 *     cc -std=c99 -O3 main.c acdnet.c acdnet_model.c -lm -o hear
 *     ffmpeg -i dog.wav -f s16le -ac 1 -ar ACDNET_RATE - | ./hear     (the number in acdnet_model.h)
 *
 * What is left at the end, or a clip shorter than a window, is filled up with zeros. On a device, a driver that fills a
 * buffer from a microphone takes the place of fread.
 */
#include <math.h>
#include <stdio.h>

#include "acdnet.h"

#define SOFT 10 /* a window without any sample beyond this is silent: -70 dB */
#define SURE 50 /* percent; a class that is less likely is printed as unsure */

static acdnet net; /* static: it is too large for the stack of most devices */
static unsigned long long passed, loud, classified, end; /* samples: so far, up to the last that was not soft, up to */
static unsigned long long lines;                         /* the last window, in all (0: not known yet); lines printed */

static void print(void)
{
    int16_t logits[ACDNET_CLASSES];
    acdnet_classify(&net, logits);
    int best = 0;
    for (int label = 1; label < ACDNET_CLASSES; label++)
        if (logits[label] > logits[best])
            best = label;
    double all = 0;
    for (int label = 0; label < ACDNET_CLASSES; label++)
        all += exp(ACDNET_LOGIT_SCALE * (logits[label] - logits[best]));
    double from = (double)(passed - ACDNET_SAMPLES) / ACDNET_RATE;
    double to = (double)(end && end < passed ? end : passed) / ACDNET_RATE;
    const char *unsure = 100 / all < SURE ? "unsure, perhaps " : "";
    printf("%9.2f to %9.2f s  %s%s %.0f %%\n", from, to, unsure, acdnet_labels[best], 100 / all);
    fflush(stdout);
    lines++;
}

static void hear(const int16_t *samples, size_t count)
{
    while (count > 0) {
        size_t taken = acdnet_hear(&net, samples, count);
        for (size_t at = 0; at < taken; at++) {
            passed++;
            if (samples[at] > SOFT || samples[at] < -SOFT)
                loud = passed;
        }
        samples += taken;
        count -= taken;
        if (!acdnet_ready(&net))
            continue;
        if (loud > 0 && loud + ACDNET_SAMPLES > passed)
            print();
        classified = passed;
        acdnet_slide(&net, (ACDNET_COLUMNS + 1) / 2);
    }
}

int main(void)
{
    int16_t samples[256] = {0};
    const int16_t zero = 0;
    size_t count;
    acdnet_reset(&net);
    while ((count = fread(samples, sizeof samples[0], 256, stdin)) > 0)
        hear(samples, count);
    end = passed;
    while (classified < end) /* the last samples are in no window yet */
        hear(&zero, 1);
    if (lines == 0)
        printf("%9.2f to %9.2f s  silent\n", 0.0, (double)end / ACDNET_RATE);
    return 0;
}
