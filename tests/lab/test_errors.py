from largebatch.lab.errors import nearest


def test_the_two_closest_names_and_no_more():
    assert nearest("sgd", ["msgd", "lars", "sgdm", "sgdx"]).count("'") == 4


def test_all_names_where_none_is_close():
    assert nearest("qqq", ["lars", "sngm"]) == "known: lars, sngm"
