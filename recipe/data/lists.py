"""Which emoji the recipe names by hand: what the generator may learn, and what the small preset learns of it."""

from __future__ import annotations

# Things that look distinct at 64 pixels: `short_name` of emoji.json, or `short_name=words of the caption`.
GENERATOR = """
dog=dog face, cat=cat face, mouse=mouse face, hamster=hamster face, rabbit=rabbit face, fox_face, bear=bear face,
panda_face, koala, tiger=tiger face, lion_face, cow=cow face, pig=pig face, frog=frog face, monkey_face, chicken,
penguin, bird, baby_chick, duck, eagle, owl, wolf=wolf face, boar, horse=horse face, unicorn_face, bee,
bug=caterpillar, butterfly, snail, beetle=ladybug, ant, spider, scorpion, turtle, snake, lizard, t-rex, sauropod,
octopus, squid, shrimp, lobster, crab, blowfish, tropical_fish, fish, dolphin, whale, shark, crocodile, leopard,
zebra_face, gorilla, elephant, hippopotamus, rhinoceros, dromedary_camel=camel, giraffe_face, kangaroo, ox, cow2=cow,
racehorse=horse, pig2=pig, sheep, llama, goat, deer, dog2=dog, poodle, cat2=cat, rooster, turkey, peacock, parrot,
swan, flamingo, dove_of_peace=dove, rabbit2=rabbit, raccoon, skunk, badger, otter, sloth, mouse2=mouse, chipmunk,
hedgehog, dragon, dragon_face, feet=paw prints, bat, hatching_chick, whale2=blue whale, jellyfish, mammoth, beaver,
seal, cactus, christmas_tree, evergreen_tree, deciduous_tree=tree, palm_tree, seedling, four_leaf_clover, maple_leaf,
fallen_leaf, mushroom, bouquet, tulip, rose, hibiscus, cherry_blossom, sunflower, shell=spiral shell, coral,
full_moon, crescent_moon, sun_with_face, full_moon_with_face=moon with face, star, earth_africa=earth globe,
ringed_planet, fire, rainbow, sunny=sun, cloud, partly_sunny=sun behind cloud, rain_cloud, lightning=thunder cloud,
zap=high voltage, snowflake, snowman_without_snow=snowman, tornado, droplet, ocean=wave,
umbrella_with_rain_drops=umbrella, volcano, comet, cyclone, green_apple, apple=red apple, pear, tangerine=orange
fruit, lemon, banana, watermelon, grapes, strawberry, blueberries, melon, cherries, peach, mango, pineapple, coconut,
kiwifruit, tomato, eggplant, avocado, broccoli, leafy_green, cucumber, hot_pepper, corn, carrot, garlic, onion,
potato, croissant, bagel, bread, baguette_bread=baguette, pretzel, cheese_wedge=cheese, egg, fried_egg=frying pan,
pancakes, waffle, bacon, meat_on_bone, poultry_leg=chicken leg, hotdog=hot dog, hamburger, fries=french fries, pizza,
sandwich, taco, burrito, green_salad, spaghetti, ramen=noodle bowl, sushi, fried_shrimp, rice_ball, rice=rice bowl,
dango, ice_cream=ice cream bowl, icecream=ice cream cone, doughnut, cookie, birthday, cake=strawberry cake, cupcake,
pie, chocolate_bar, candy, lollipop, honey_pot, glass_of_milk, coffee, tea=green tea, teapot, beer=beer mug,
wine_glass, cocktail, tropical_drink, bubble_tea, popcorn, salt=salt shaker, butter, fortune_cookie, bento, moon_cake,
soccer=soccer ball, basketball, football=american football, baseball, tennis=tennis ball, volleyball, 8ball=eight
ball, bowling, boxing_glove, trophy, sports_medal, dart=dart board, video_game, game_die=die, jigsaw=puzzle piece,
teddy_bear, guitar, violin, trumpet, saxophone, drum_with_drumsticks=drum, musical_keyboard=piano keys, accordion,
balloon, gift, ribbon, jack_o_lantern=pumpkin, tada=party popper, crystal_ball, kite, yo-yo, nesting_dolls=nesting
doll, art=artist palette, thread=spool of thread, yarn=ball of yarn, skateboard, car=red car, taxi, blue_car, bus,
trolleybus, racing_car, police_car, ambulance, fire_engine, minibus, truck=delivery truck, tractor, motor_scooter,
bike=bicycle, racing_motorcycle=motorcycle, helicopter, airplane, rocket, flying_saucer, sailboat, boat, speedboat,
ship, anchor, train=tram car, steam_locomotive, bullettrain_front=bullet train, station,
vertical_traffic_light=traffic light, octagonal_sign=stop sign, fuelpump=fuel pump, construction,
rotating_light=police light, satellite, parachute_gliding, house, house_with_garden, office=office building, hospital,
european_castle=castle, church, mosque, tent, ferris_wheel, fountain, statue_of_liberty, mount_fuji, desert_island,
circus_tent, derelict_house_building=derelict house, stadium, watch, iphone=mobile phone, computer=laptop,
desktop_computer, keyboard, printer, camera, tv=television, radio, alarm_clock, hourglass, bulb=light bulb,
flashlight, candle, battery, electric_plug, moneybag, dollar=dollar banknote, gem, wrench, hammer, screwdriver, axe,
gear, magnet, bomb, dagger_knife=dagger, shield, ladder, pill, syringe, test_tube, microscope, telescope, dna,
thermometer, key, door, bed, couch_and_lamp, chair, toilet, bathtub, broom, soap, bucket, mirror, basket, bell,
loud_sound=speaker, mega=megaphone, envelope, package, postbox, mailbox, scroll, newspaper, books, closed_book,
green_book, blue_book, notebook, calendar, clipboard, pushpin, paperclip, scissors, pencil2=pencil,
lower_left_crayon=crayon, lower_left_paintbrush=paintbrush, lock, mag=magnifying glass, crown, tophat,
mortar_board=graduation cap, eyeglasses, dark_sunglasses=sunglasses, necktie, shirt=t-shirt, jeans, scarf, gloves,
coat, socks, dress, kimono, bikini, handbag, school_satchel=backpack, mans_shoe, athletic_shoe=sneaker, high_heel,
boot, ring, lipstick, billed_cap, umbrella_on_ground=beach umbrella, heart=red heart, orange_heart, yellow_heart,
green_heart, blue_heart, purple_heart, black_heart, brown_heart, white_heart, pink_heart, broken_heart,
sparkling_heart, heart_on_fire, cupid=heart with arrow, gift_heart=heart with ribbon, two_hearts, grinning=grinning
face, joy=laughing tears face, heart_eyes=heart eyes face, sunglasses=cool sunglasses face, sob=crying loudly face,
rage=red angry face, scream=screaming face, sleeping=sleeping face, kissing_heart=kissing face, star-struck=star eyes
face, nerd_face, thinking_face, mask=face with medical mask, nauseated_face=green sick face, cold_face=blue freezing
face, hot_face=hot red face, exploding_head, face_with_cowboy_hat=cowboy face, partying_face, clown_face,
innocent=halo angel face, smiling_imp=purple devil face, money_mouth_face, upside_down_face, stuck_out_tongue=tongue
out face, neutral_face, wink=winking face, skull, ghost, alien, space_invader, robot_face, hankey=poo,
japanese_ogre=red ogre, japanese_goblin=red goblin, smiley_cat=smiling cat, heart_eyes_cat=heart eyes cat,
see_no_evil=see no evil monkey, +1=thumbs up, -1=thumbs down, wave=waving hand, ok_hand, v=victory hand, clap=clapping
hands, muscle=flexed arm, eyes, ear, nose, lips=mouth, tooth, bone, brain, lungs, foot, santa, baby, cop=police
officer, astronaut, ninja, mermaid, cook, farmer, princess, moyai=stone head
"""

# What the small preset draws: the most distinct of them, few enough for two cores to learn well in an hour or so.
CORE = """
cat dog mouse rabbit bear panda_face koala tiger lion_face cow pig frog monkey_face penguin bird baby_chick duck owl
unicorn_face bee butterfly snail beetle spider turtle snake octopus crab blowfish shark elephant zebra_face rooster
peacock jellyfish dragon_face cactus christmas_tree evergreen_tree palm_tree seedling four_leaf_clover maple_leaf
mushroom rose sunflower full_moon crescent_moon star earth_africa ringed_planet fire rainbow sunny zap snowflake
droplet apple tangerine lemon banana watermelon grapes strawberry cherries peach pineapple coconut tomato eggplant
avocado broccoli hot_pepper corn croissant bread cheese_wedge hamburger fries pizza sushi icecream doughnut cookie
birthday lollipop coffee beer soccer basketball football baseball tennis 8ball trophy dart game_die teddy_bear guitar
drum_with_drumsticks balloon gift jack_o_lantern car taxi bus police_car ambulance truck helicopter airplane rocket
flying_saucer anchor vertical_traffic_light house tent watch iphone computer tv alarm_clock bulb candle battery
moneybag gem gear magnet shield pill key door toilet bell green_book blue_book pushpin scissors pencil2 lock mag crown
mortar_board dark_sunglasses necktie shirt handbag athletic_shoe ring heart yellow_heart blue_heart purple_heart
black_heart broken_heart sparkling_heart heart_on_fire grinning joy heart_eyes sunglasses sob rage scream sleeping
star-struck nerd_face thinking_face mask nauseated_face hot_face exploding_head partying_face clown_face innocent
smiling_imp upside_down_face stuck_out_tongue neutral_face skull ghost alien robot_face hankey japanese_ogre
smiley_cat -1 wave ok_hand muscle eyes tooth bone santa baby ninja
"""
