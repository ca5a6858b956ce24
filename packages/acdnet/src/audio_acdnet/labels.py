"""The class lists of the data sets, in the order of their own numbers."""

ESC50 = (
    *("dog", "rooster", "pig", "cow", "frog", "cat", "hen", "insects", "sheep", "crow"),
    *("rain", "sea_waves", "crackling_fire", "crickets", "chirping_birds"),
    *("water_drops", "wind", "pouring_water", "toilet_flush", "thunderstorm"),
    *("crying_baby", "sneezing", "clapping", "breathing", "coughing"),
    *("footsteps", "laughing", "brushing_teeth", "snoring", "drinking_sipping"),
    *("door_wood_knock", "mouse_click", "keyboard_typing", "door_wood_creaks", "can_opening"),
    *("washing_machine", "vacuum_cleaner", "clock_alarm", "clock_tick", "glass_breaking"),
    *("helicopter", "chainsaw", "siren", "car_horn", "engine", "train", "church_bells", "airplane"),
    *("fireworks", "hand_saw"),
)

# ESC-10 has no numbering of its own: these are the ten classes in the order of ESC-50, which is kept everywhere here.
ESC10 = tuple(ESC50[number] for number in (0, 1, 10, 11, 12, 20, 21, 38, 40, 41))

URBANSOUND8K = (
    *("air_conditioner", "car_horn", "children_playing", "dog_bark", "drilling"),
    *("engine_idling", "gun_shot", "jackhammer", "siren", "street_music"),
)
