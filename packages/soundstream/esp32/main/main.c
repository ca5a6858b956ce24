/* Listens to an I2S microphone and writes an .sstr stream to the console's UART; says the load every ten seconds.
 *
 * The microphone is of the kind that sends 24 bits of a sample in 32 (INMP441, SPH0645). Pins are those below.
 */
#include <inttypes.h>

#include "driver/gpio.h"
#include "driver/i2s_std.h"
#include "driver/uart.h"
#include "esp_err.h"
#include "esp_log.h"
#include "esp_timer.h"
#include "freertos/FreeRTOS.h"
#include "freertos/task.h"

#include "sstr.h"

#define CLOCK GPIO_NUM_4
#define WORD GPIO_NUM_5
#define DATA GPIO_NUM_6
#define PORT UART_NUM_1
#define PORT_TX GPIO_NUM_17
#define PORT_BAUD 921600

static const char *const TAG = "encoder";
static soundstream net;
static sstr stream;
static uint8_t bytes[SSTR_MOST];
static int32_t heard[SOUNDSTREAM_HOP];
static soundstream_sample samples[SOUNDSTREAM_HOP];

static i2s_chan_handle_t microphone(void)
{
    i2s_chan_handle_t channel;
    i2s_chan_config_t settings = I2S_CHANNEL_DEFAULT_CONFIG(I2S_NUM_AUTO, I2S_ROLE_MASTER);
    i2s_std_config_t standard = {
        .clk_cfg = I2S_STD_CLK_DEFAULT_CONFIG(SOUNDSTREAM_RATE),
        .slot_cfg = I2S_STD_PHILIPS_SLOT_DEFAULT_CONFIG(I2S_DATA_BIT_WIDTH_32BIT, I2S_SLOT_MODE_MONO),
        .gpio_cfg = {.mclk = I2S_GPIO_UNUSED, .bclk = CLOCK, .ws = WORD, .dout = I2S_GPIO_UNUSED, .din = DATA},
    };
    settings.dma_frame_num = SOUNDSTREAM_HOP; /* with six such buffers, four frames may be late */
    ESP_ERROR_CHECK(i2s_new_channel(&settings, NULL, &channel));
    ESP_ERROR_CHECK(i2s_channel_init_std_mode(channel, &standard));
    ESP_ERROR_CHECK(i2s_channel_enable(channel));
    return channel;
}

static void port(void)
{
    uart_config_t settings = {.baud_rate = PORT_BAUD,
                              .data_bits = UART_DATA_8_BITS,
                              .parity = UART_PARITY_DISABLE,
                              .stop_bits = UART_STOP_BITS_1};
    ESP_ERROR_CHECK(uart_driver_install(PORT, 256, 4096, 0, NULL, 0));
    ESP_ERROR_CHECK(uart_param_config(PORT, &settings));
    ESP_ERROR_CHECK(uart_set_pin(PORT, PORT_TX, UART_PIN_NO_CHANGE, UART_PIN_NO_CHANGE, UART_PIN_NO_CHANGE));
}

static void encode(void *unused)
{
    (void)unused;
    i2s_chan_handle_t channel = microphone();
    int64_t busy = 0;
    port();
    soundstream_start(&net, SOUNDSTREAM_CODEBOOKS);
    uart_write_bytes(PORT, bytes, sstr_begin(&stream, bytes));
    for (uint32_t block = 1;; block++) {
        size_t got;
        ESP_ERROR_CHECK(i2s_channel_read(channel, heard, sizeof heard, &got, portMAX_DELAY));
        int64_t begin = esp_timer_get_time();
        size_t count = got / sizeof heard[0];
        for (size_t at = 0; at < count; at++)
            samples[at] = SOUNDSTREAM_INTEGER ? (soundstream_sample)(heard[at] >> 16)
                                              : (soundstream_sample)heard[at] / 2147483648.0f;
        for (size_t at = 0; at < count;) {
            at += soundstream_hear(&net, samples + at, count - at);
            if (net.ready)
                uart_write_bytes(PORT, bytes, sstr_add(&stream, net.codes, bytes));
        }
        busy += esp_timer_get_time() - begin;
        if (block % (10 * SOUNDSTREAM_RATE / SOUNDSTREAM_HOP) == 0) {
            ESP_LOGI(TAG, "load of a core: %" PRId64 " %%", busy / 100000);
            busy = 0;
        }
    }
}

void app_main(void)
{
    xTaskCreatePinnedToCore(encode, "encode", 8192, NULL, configMAX_PRIORITIES - 2, NULL, 1);
}
