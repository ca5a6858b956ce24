/* Says twice a window what is heard in 16-bit mono audio at ACDNET_RATE, read from standard input:
 *
 *     cc -std=c99 -O3 main.c acdnet.c acdnet_model.c -lm -o hear
 *     ffmpeg -i dog.wav -f s16le -ac 1 -ar ACDNET_RATE - | ./hear     (the number in acdnet_model.h)
 *
 * On a device, a driver that fills a buffer from a microphone takes the place of fread.
 */
#include <math.h>
#include <stdio.h>

#include "acdnet.h"

#define SOFT 10  /* a window without any sample beyond this holds nothing to be heard: -70 dB */
#define LEAST 50 /* percent; what is less likely is not told */

static acdnet net; /* static: it is too large for the stack of most devices */

int main(void)
{
    int16_t samples[256], logits[ACDNET_CLASSES];
    size_t count;
    unsigned long long heard = 0, loud = 0; /* samples so far, and up to the last that was not soft */
    acdnet_reset(&net);
    while ((count = fread(samples, sizeof samples[0], 256, stdin)) > 0) {
        for (size_t at = 0; at < count;) {
            size_t taken = acdnet_hear(&net, samples + at, count - at);
            for (; taken > 0; taken--, at++) {
                heard++;
                if (samples[at] > SOFT || samples[at] < -SOFT)
                    loud = heard;
            }
            if (!acdnet_ready(&net))
                continue;
            if (loud > 0 && loud + ACDNET_SAMPLES > heard) {
                acdnet_classify(&net, logits);
                int best = 0;
                for (int label = 1; label < ACDNET_CLASSES; label++)
                    if (logits[label] > logits[best])
                        best = label;
                double all = 0;
                for (int label = 0; label < ACDNET_CLASSES; label++)
                    all += exp(ACDNET_LOGIT_SCALE * (logits[label] - logits[best]));
                double end = (double)heard / ACDNET_RATE, begin = end - (double)ACDNET_SAMPLES / ACDNET_RATE;
                if (100 / all >= LEAST)
                    printf("%9.2f to %9.2f s  %s %.0f %%\n", begin, end, acdnet_labels[best], 100 / all);
                fflush(stdout);
            }
            acdnet_slide(&net, (ACDNET_COLUMNS + 1) / 2);
        }
    }
    return 0;
}
