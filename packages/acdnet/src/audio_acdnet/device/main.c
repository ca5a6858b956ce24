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

static acdnet net; /* static: it is too large for the stack of most devices */

int main(void)
{
    int16_t samples[256], logits[ACDNET_CLASSES];
    size_t count;
    unsigned long long heard = 0;
    acdnet_reset(&net);
    while ((count = fread(samples, sizeof samples[0], 256, stdin)) > 0) {
        for (size_t at = 0; at < count;) {
            size_t taken = acdnet_hear(&net, samples + at, count - at);
            at += taken;
            heard += taken;
            if (!acdnet_ready(&net))
                continue;
            acdnet_classify(&net, logits);
            int best = 0;
            for (int label = 1; label < ACDNET_CLASSES; label++)
                if (logits[label] > logits[best])
                    best = label;
            double all = 0;
            for (int label = 0; label < ACDNET_CLASSES; label++)
                all += exp(ACDNET_LOGIT_SCALE * (logits[label] - logits[best]));
            printf("%9.2f s  %s %.0f %%\n", (double)heard / ACDNET_RATE, acdnet_labels[best], 100 / all);
            fflush(stdout);
            acdnet_slide(&net, (ACDNET_COLUMNS + 1) / 2);
        }
    }
    return 0;
}
