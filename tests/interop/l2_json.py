"""larder as an L2, as it stands in LMCache's configuration."""


def l2_of(form="native_plugin", **parameters):
    """The JSON of larder as an L2, in one of its two forms."""
    return {
        "type": form,
        "module_path": "larder.lmcache",
        "class_name": {"native_plugin": "Connector", "plugin": "L2Adapter"}[form],
        "adapter_params": parameters,
    }
